-- 114111
CREATE TABLE "Catch" ("TripId" INTEGER NOT NULL, "HaulNo" SMALLINT NOT NULL, "SpeciesCode" VARCHAR NOT NULL, "WeightKg" DECIMAL(9,1),
  "GearType" VARCHAR, "ShotAt" TIMESTAMP, "DepthM" INTEGER, "Discarded" BOOLEAN, PRIMARY KEY ("TripId", "HaulNo", "SpeciesCode"));
COMMENT ON TABLE "Catch" IS 'Logbook of the fishing boats: what each haul brought up';
COMMENT ON COLUMN "Catch"."TripId" IS 'Voyage, from leaving port to landing';
COMMENT ON COLUMN "Catch"."HaulNo" IS 'Number of the haul within the trip';
COMMENT ON COLUMN "Catch"."SpeciesCode" IS 'Three-letter FAO code of the fish';
COMMENT ON COLUMN "Catch"."WeightKg" IS 'Live weight in kilograms, estimated on board';
COMMENT ON COLUMN "Catch"."GearType" IS 'Kind of net or line';
COMMENT ON COLUMN "Catch"."ShotAt" IS 'Time at which the gear was set';
COMMENT ON COLUMN "Catch"."DepthM" IS 'Depth of the water in metres';
COMMENT ON COLUMN "Catch"."Discarded" IS 'True if the fish went back into the sea';

-- 519210
CREATE TABLE "Loan" ("LoanId" BIGINT PRIMARY KEY, "CopyBarcode" VARCHAR NOT NULL, "PatronId" INTEGER NOT NULL, "IssuedOn" DATE NOT NULL,
  "DueOn" DATE NOT NULL, "ReturnedOn" DATE, "Renewals" TINYINT, "FineCents" INTEGER);
COMMENT ON TABLE "Loan" IS 'Books and media lent to readers';
COMMENT ON COLUMN "Loan"."LoanId" IS 'Technical key';
COMMENT ON COLUMN "Loan"."CopyBarcode" IS 'Barcode glued into the copy';
COMMENT ON COLUMN "Loan"."PatronId" IS 'Reader who borrowed it';
COMMENT ON COLUMN "Loan"."IssuedOn" IS 'Day of borrowing';
COMMENT ON COLUMN "Loan"."DueOn" IS 'Day by which it must be back';
COMMENT ON COLUMN "Loan"."ReturnedOn" IS 'Day it came back; null while it is out';
COMMENT ON COLUMN "Loan"."Renewals" IS 'How often the loan was extended';
COMMENT ON COLUMN "Loan"."FineCents" IS 'Late fee in cents';

-- 551114
CREATE TABLE "CostCentre" ("Code" VARCHAR PRIMARY KEY, "Title" VARCHAR NOT NULL, "ParentCode" VARCHAR, "ManagerEmpNo" INTEGER,
  "BudgetYtd" DECIMAL(14,2), "ActualYtd" DECIMAL(14,2), "ClosedFrom" DATE);
COMMENT ON TABLE "CostCentre" IS 'Units of the group to which costs are charged';
COMMENT ON COLUMN "CostCentre"."Code" IS 'Code of the cost centre in the ledger';
COMMENT ON COLUMN "CostCentre"."Title" IS 'Name as in the organisation chart';
COMMENT ON COLUMN "CostCentre"."ParentCode" IS 'Cost centre into which this one is summed up';
COMMENT ON COLUMN "CostCentre"."ManagerEmpNo" IS 'Employee who answers for the budget';
COMMENT ON COLUMN "CostCentre"."BudgetYtd" IS 'Budget from January to now';
COMMENT ON COLUMN "CostCentre"."ActualYtd" IS 'Costs booked from January to now';
COMMENT ON COLUMN "CostCentre"."ClosedFrom" IS 'No bookings are allowed from this day on';

-- 712110
CREATE TABLE "Artwork" ("AccessionNo" VARCHAR PRIMARY KEY, "Title" VARCHAR, "MakerId" INTEGER, "YearFrom" SMALLINT, "YearTo" SMALLINT,
  "Medium" VARCHAR, "OnLoanFrom" VARCHAR, "InsuredValue" DECIMAL(14,2));
COMMENT ON TABLE "Artwork" IS 'The museum''s collection and works on loan to it';
COMMENT ON COLUMN "Artwork"."AccessionNo" IS 'Inventory number given when the work entered the museum';
COMMENT ON COLUMN "Artwork"."Title" IS 'Title of the work in its original language';
COMMENT ON COLUMN "Artwork"."MakerId" IS 'Artist or workshop';
COMMENT ON COLUMN "Artwork"."YearFrom" IS 'Earliest year in which it can have been made';
COMMENT ON COLUMN "Artwork"."YearTo" IS 'Latest year in which it can have been made';
COMMENT ON COLUMN "Artwork"."Medium" IS 'Materials and technique';
COMMENT ON COLUMN "Artwork"."OnLoanFrom" IS 'Owner, if the museum does not own it';
COMMENT ON COLUMN "Artwork"."InsuredValue" IS 'Sum for which it is insured';

-- 713110
CREATE TABLE "GateEntry" ("EntryId" BIGINT PRIMARY KEY, "TicketNo" VARCHAR NOT NULL, "GateNo" TINYINT NOT NULL, "EnteredAt" TIMESTAMP NOT NULL,
  "TicketKind" VARCHAR, "PricePaid" DECIMAL(6,2), "SeasonPass" BOOLEAN);
COMMENT ON TABLE "GateEntry" IS 'Visitors passing the gates of the amusement park';
COMMENT ON COLUMN "GateEntry"."EntryId" IS 'Counter of the turnstile system';
COMMENT ON COLUMN "GateEntry"."TicketNo" IS 'Number under the QR code of the ticket';
COMMENT ON COLUMN "GateEntry"."GateNo" IS 'Gate through which the visitor came in';
COMMENT ON COLUMN "GateEntry"."EnteredAt" IS 'Moment of entry';
COMMENT ON COLUMN "GateEntry"."TicketKind" IS 'Adult, child, family or group';
COMMENT ON COLUMN "GateEntry"."PricePaid" IS 'What this visitor paid for the day';
COMMENT ON COLUMN "GateEntry"."SeasonPass" IS 'True if entry was by season pass';

-- 221310
CREATE TABLE water_samples (sample_no INTEGER PRIMARY KEY, tap_code VARCHAR NOT NULL, taken_on TIMESTAMP NOT NULL, ph DECIMAL(4,2),
  chlorine_mgl DECIMAL(5,3), turbidity_ntu DECIMAL(6,2), ecoli_cfu INTEGER, lab_approved BOOLEAN);
COMMENT ON TABLE water_samples IS 'Tests of drinking water taken from the network';
COMMENT ON COLUMN water_samples.sample_no IS 'Number on the bottle';
COMMENT ON COLUMN water_samples.tap_code IS 'Sampling point in the network';
COMMENT ON COLUMN water_samples.taken_on IS 'When the sample was drawn';
COMMENT ON COLUMN water_samples.ph IS 'Acidity, 7 is neutral';
COMMENT ON COLUMN water_samples.chlorine_mgl IS 'Free chlorine in milligrams per litre';
COMMENT ON COLUMN water_samples.turbidity_ntu IS 'Cloudiness in nephelometric units';
COMMENT ON COLUMN water_samples.ecoli_cfu IS 'Colonies of coliform bacteria per 100 ml; must be zero';
COMMENT ON COLUMN water_samples.lab_approved IS 'Whether the laboratory confirmed the result';
