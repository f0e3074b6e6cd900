-- 221122
CREATE TABLE meter_readings (
  reading_id bigserial PRIMARY KEY, meter_no varchar(16) NOT NULL, read_at timestamptz NOT NULL,
  kwh numeric(12,3) NOT NULL, quality char(1) NOT NULL, reader text, tariff_zone smallint);
COMMENT ON TABLE meter_readings IS 'Readings of electricity meters, smart and manual ones';
COMMENT ON COLUMN meter_readings.reading_id IS 'Surrogate key.';
COMMENT ON COLUMN meter_readings.meter_no IS 'Serial number on the meter''s plate';
COMMENT ON COLUMN meter_readings.read_at IS 'Moment to which the counter applies';
COMMENT ON COLUMN meter_readings.kwh IS 'Counter in kilowatt-hours, not the consumption since the last reading';
COMMENT ON COLUMN meter_readings.quality IS 'M measured, E estimated, C corrected by hand';
COMMENT ON COLUMN meter_readings.reader IS 'Who read the meter; empty for automatic readings';
COMMENT ON COLUMN meter_readings.tariff_zone IS 'Zone of the grid charge that the address lies in';

-- 611310
CREATE TABLE enrollments (
  student_id int NOT NULL, section_id int NOT NULL REFERENCES sections (section_id), enrolled_at date NOT NULL,
  grade varchar(2), credits numeric(3,1), dropped_at date, audit boolean NOT NULL DEFAULT false,
  PRIMARY KEY (student_id, section_id));
COMMENT ON TABLE enrollments IS 'Which student takes which class';
COMMENT ON COLUMN enrollments.student_id IS 'Matriculation number of the student';
COMMENT ON COLUMN enrollments.section_id IS 'Class of a course in one term';
COMMENT ON COLUMN enrollments.enrolled_at IS 'Date of registration';
COMMENT ON COLUMN enrollments.grade IS 'Final grade, A to F; W if withdrawn';
COMMENT ON COLUMN enrollments.credits IS 'Credit points earned when the class is passed';
COMMENT ON COLUMN enrollments.dropped_at IS 'Date on which the student left the class';
COMMENT ON COLUMN enrollments.audit IS 'True if the student only listens and gets no grade';

-- 541110
CREATE TABLE matters (
  matter_no text PRIMARY KEY, client_id int NOT NULL, practice_area text, opened_on date NOT NULL, closed_on date,
  partner_id int NOT NULL, hourly_rate numeric(8,2), conflict_cleared boolean NOT NULL);
COMMENT ON TABLE matters IS 'Cases and mandates of the law firm';
COMMENT ON COLUMN matters.matter_no IS 'File number, year and counter';
COMMENT ON COLUMN matters.client_id IS 'Client we act for';
COMMENT ON COLUMN matters.practice_area IS 'Field of law, such as tax or employment';
COMMENT ON COLUMN matters.opened_on IS 'Date of the engagement letter';
COMMENT ON COLUMN matters.closed_on IS 'Date the file was archived';
COMMENT ON COLUMN matters.partner_id IS 'Partner responsible for the case';
COMMENT ON COLUMN matters.hourly_rate IS 'Agreed fee per hour, where no lump sum was agreed';
COMMENT ON COLUMN matters.conflict_cleared IS 'Whether the check for conflicts of interest was passed';

-- 493110
CREATE TABLE bin_locations (
  bin_code varchar(12) PRIMARY KEY, zone char(2) NOT NULL, max_weight_kg numeric(7,1), is_cold boolean NOT NULL,
  pick_seq int, blocked_reason text, last_count timestamptz);
COMMENT ON TABLE bin_locations IS 'Storage places in the warehouse racks';
COMMENT ON COLUMN bin_locations.bin_code IS 'Aisle, bay, level and place as on the barcode';
COMMENT ON COLUMN bin_locations.zone IS 'Part of the hall';
COMMENT ON COLUMN bin_locations.max_weight_kg IS 'Greatest load the shelf can carry, in kilograms';
COMMENT ON COLUMN bin_locations.is_cold IS 'True for chilled places';
COMMENT ON COLUMN bin_locations.pick_seq IS 'Position on the picker''s walk through the hall';
COMMENT ON COLUMN bin_locations.blocked_reason IS 'Why nothing may be stored here at present';
COMMENT ON COLUMN bin_locations.last_count IS 'Time of the latest stocktaking at this place';

-- 111998
CREATE TABLE harvest_lots (
  lot_id int PRIMARY KEY, field_id int NOT NULL REFERENCES fields (field_id), crop text NOT NULL, harvested_on date,
  gross_t numeric(8,2), moisture_pct numeric(4,1), silo_no smallint, sold_to text);
COMMENT ON TABLE harvest_lots IS 'What was harvested from which field, and where it went';
COMMENT ON COLUMN harvest_lots.lot_id IS 'Identifies the harvested lot';
COMMENT ON COLUMN harvest_lots.field_id IS 'Field on which it grew';
COMMENT ON COLUMN harvest_lots.crop IS 'Plant and variety';
COMMENT ON COLUMN harvest_lots.harvested_on IS 'Day of the harvest';
COMMENT ON COLUMN harvest_lots.gross_t IS 'Weight on the bridge in tonnes, before drying';
COMMENT ON COLUMN harvest_lots.moisture_pct IS 'Water content of the grain in percent';
COMMENT ON COLUMN harvest_lots.silo_no IS 'Silo in which it is stored';
COMMENT ON COLUMN harvest_lots.sold_to IS 'Buyer, once the lot is sold';

-- 922120
CREATE TABLE incidents (
  incident_no text PRIMARY KEY, reported_at timestamptz NOT NULL, offence_code varchar(6), precinct smallint NOT NULL,
  officer_badge int, latitude double precision, longitude double precision, cleared boolean);
COMMENT ON TABLE incidents IS 'Offences reported to the police';
COMMENT ON COLUMN incidents.incident_no IS 'Number of the police report';
COMMENT ON COLUMN incidents.reported_at IS 'When the call or visit was logged';
COMMENT ON COLUMN incidents.offence_code IS 'Kind of offence by the national code list';
COMMENT ON COLUMN incidents.precinct IS 'Police district in which it happened';
COMMENT ON COLUMN incidents.officer_badge IS 'Badge number of the officer who took the report';
COMMENT ON COLUMN incidents.latitude IS 'North-south coordinate of the scene, in degrees';
COMMENT ON COLUMN incidents.longitude IS 'East-west coordinate of the scene, in degrees';
COMMENT ON COLUMN incidents.cleared IS 'True once a suspect has been charged';

-- 513210
CREATE TABLE licences (
  licence_key uuid PRIMARY KEY, product_code text NOT NULL, seats int NOT NULL, seats_used int NOT NULL DEFAULT 0,
  valid_until date, customer_id bigint, revoked_at timestamptz, renewal_of uuid);
COMMENT ON TABLE licences IS 'Software licences we have issued';
COMMENT ON COLUMN licences.licence_key IS 'Key that the customer enters to activate the software';
COMMENT ON COLUMN licences.product_code IS 'Product and edition it unlocks';
COMMENT ON COLUMN licences.seats IS 'Number of users allowed at the same time';
COMMENT ON COLUMN licences.seats_used IS 'Number of users who have activated it';
COMMENT ON COLUMN licences.valid_until IS 'Last day on which it works; empty for perpetual ones';
COMMENT ON COLUMN licences.customer_id IS 'Company that bought it';
COMMENT ON COLUMN licences.revoked_at IS 'When it was blocked, for non-payment or misuse';
COMMENT ON COLUMN licences.renewal_of IS 'Earlier licence that this one continues';

-- 721110
CREATE TABLE room_nights (
  stay_id bigint NOT NULL, night date NOT NULL, room_no varchar(5), rate_code text, room_rev numeric(9,2),
  fnb_rev numeric(9,2), occupants smallint, PRIMARY KEY (stay_id, night));
COMMENT ON TABLE room_nights IS 'One row per occupied hotel room and night; base of the occupancy report';
COMMENT ON COLUMN room_nights.stay_id IS 'Stay of a guest from check-in to check-out';
COMMENT ON COLUMN room_nights.night IS 'Date of the evening on which the night begins';
COMMENT ON COLUMN room_nights.room_no IS 'Number on the room door';
COMMENT ON COLUMN room_nights.rate_code IS 'Price agreement that was applied';
COMMENT ON COLUMN room_nights.room_rev IS 'Revenue for lodging, net of tax';
COMMENT ON COLUMN room_nights.fnb_rev IS 'Revenue for food and beverages charged to the room';
COMMENT ON COLUMN room_nights.occupants IS 'People who slept in the room';
