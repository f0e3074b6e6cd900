-- 522110
CREATE TABLE T_ACCT (ACCT_NO VARCHAR2(20) PRIMARY KEY, CUST_NO NUMBER(10) NOT NULL, PROD_CD VARCHAR2(4) NOT NULL,
  CURR_CD CHAR(3) NOT NULL, BAL_AMT NUMBER(18,2) NOT NULL, OD_LMT_AMT NUMBER(18,2), OPN_DT DATE NOT NULL, STAT_CD CHAR(1) NOT NULL);
COMMENT ON TABLE T_ACCT IS 'Deposit and current accounts of the bank''s customers.';
COMMENT ON COLUMN T_ACCT.ACCT_NO IS 'Account number (IBAN without spaces).';
COMMENT ON COLUMN T_ACCT.CUST_NO IS 'Customer who owns the account.';
COMMENT ON COLUMN T_ACCT.PROD_CD IS 'Product code, such as savings or current.';
COMMENT ON COLUMN T_ACCT.CURR_CD IS 'Currency of the account, ISO 4217.';
COMMENT ON COLUMN T_ACCT.BAL_AMT IS 'Booked balance at the end of the last business day.';
COMMENT ON COLUMN T_ACCT.OD_LMT_AMT IS 'Overdraft limit granted.';
COMMENT ON COLUMN T_ACCT.OPN_DT IS 'Date the account was opened.';
COMMENT ON COLUMN T_ACCT.STAT_CD IS 'A active, D dormant, C closed.';

-- 524126
CREATE TABLE CLM (CLM_ID NUMBER(12) PRIMARY KEY, POL_NO VARCHAR2(15) NOT NULL, LOSS_DT DATE NOT NULL, RPT_DT DATE,
  PERIL_CD VARCHAR2(3), RSRV_AMT NUMBER(14,2), PD_AMT NUMBER(14,2), ADJ_ID NUMBER(8), SUBRO_IND CHAR(1));
COMMENT ON TABLE CLM IS 'Claims under property and casualty policies.';
COMMENT ON COLUMN CLM.CLM_ID IS 'Claim identifier.';
COMMENT ON COLUMN CLM.POL_NO IS 'Policy under which the claim is made.';
COMMENT ON COLUMN CLM.LOSS_DT IS 'Date on which the damage happened.';
COMMENT ON COLUMN CLM.RPT_DT IS 'Date on which it was reported to us.';
COMMENT ON COLUMN CLM.PERIL_CD IS 'Cause of loss: FIR fire, WTR water, THF theft, WND storm.';
COMMENT ON COLUMN CLM.RSRV_AMT IS 'Amount set aside for what is still to be paid.';
COMMENT ON COLUMN CLM.PD_AMT IS 'Total of payments made so far.';
COMMENT ON COLUMN CLM.ADJ_ID IS 'Adjuster who handles the claim.';
COMMENT ON COLUMN CLM.SUBRO_IND IS 'Y if we may recover the money from a third party.';

-- 212220
CREATE TABLE ASSAY_RES (SMP_ID NUMBER(10) PRIMARY KEY, HOLE_ID VARCHAR2(10) NOT NULL, FRM_M NUMBER(7,2), TO_M NUMBER(7,2),
  AU_GPT NUMBER(8,3), LAB_CD VARCHAR2(5), RCVD_DT DATE, QC_FLG CHAR(1));
COMMENT ON TABLE ASSAY_RES IS 'Laboratory results of drill core samples.';
COMMENT ON COLUMN ASSAY_RES.SMP_ID IS 'Sample number on the bag.';
COMMENT ON COLUMN ASSAY_RES.HOLE_ID IS 'Drill hole from which the core was taken.';
COMMENT ON COLUMN ASSAY_RES.FRM_M IS 'Depth at which the sample begins, in metres.';
COMMENT ON COLUMN ASSAY_RES.TO_M IS 'Depth at which the sample ends, in metres.';
COMMENT ON COLUMN ASSAY_RES.AU_GPT IS 'Gold content in grams per tonne of rock.';
COMMENT ON COLUMN ASSAY_RES.LAB_CD IS 'Laboratory that did the analysis.';
COMMENT ON COLUMN ASSAY_RES.RCVD_DT IS 'Day on which the result came in.';
COMMENT ON COLUMN ASSAY_RES.QC_FLG IS 'Y if the sample passed quality control.';

-- 325412
CREATE TABLE BATCH_REC (BATCH_NO VARCHAR2(14) PRIMARY KEY, MAT_NO VARCHAR2(18) NOT NULL, MFG_DT DATE NOT NULL, EXP_DT DATE NOT NULL,
  YLD_KG NUMBER(9,3), REL_STAT CHAR(1), QP_INIT VARCHAR2(4), DEV_CNT NUMBER(3));
COMMENT ON TABLE BATCH_REC IS 'Production batches of medicines and their release.';
COMMENT ON COLUMN BATCH_REC.BATCH_NO IS 'Batch number as printed on the pack.';
COMMENT ON COLUMN BATCH_REC.MAT_NO IS 'Material that was made.';
COMMENT ON COLUMN BATCH_REC.MFG_DT IS 'Date of manufacture.';
COMMENT ON COLUMN BATCH_REC.EXP_DT IS 'Date after which it must not be sold.';
COMMENT ON COLUMN BATCH_REC.YLD_KG IS 'Yield of good product in kilograms.';
COMMENT ON COLUMN BATCH_REC.REL_STAT IS 'Q quarantine, R released, X rejected.';
COMMENT ON COLUMN BATCH_REC.QP_INIT IS 'Initials of the qualified person who signed.';
COMMENT ON COLUMN BATCH_REC.DEV_CNT IS 'Number of deviations recorded during production.';

-- 481111
CREATE TABLE FLT_LEG (LEG_ID NUMBER(12) PRIMARY KEY, FLT_NO VARCHAR2(7) NOT NULL, DEP_APT CHAR(3) NOT NULL, ARR_APT CHAR(3) NOT NULL,
  STD DATE NOT NULL, ATD DATE, TAIL_NO VARCHAR2(8), PAX_CNT NUMBER(4), DLY_CD VARCHAR2(2));
COMMENT ON TABLE FLT_LEG IS 'Flights between two airports, planned and flown.';
COMMENT ON COLUMN FLT_LEG.LEG_ID IS 'Key of the flight leg.';
COMMENT ON COLUMN FLT_LEG.FLT_NO IS 'Flight number with airline code.';
COMMENT ON COLUMN FLT_LEG.DEP_APT IS 'Airport of departure, IATA code.';
COMMENT ON COLUMN FLT_LEG.ARR_APT IS 'Airport of arrival, IATA code.';
COMMENT ON COLUMN FLT_LEG.STD IS 'Scheduled time of departure, UTC.';
COMMENT ON COLUMN FLT_LEG.ATD IS 'Actual time of departure, UTC.';
COMMENT ON COLUMN FLT_LEG.TAIL_NO IS 'Registration of the aircraft.';
COMMENT ON COLUMN FLT_LEG.PAX_CNT IS 'Passengers on board.';
COMMENT ON COLUMN FLT_LEG.DLY_CD IS 'Reason for a delay, IATA code.';

-- 622110
CREATE TABLE ADM (ADM_NO NUMBER(12) PRIMARY KEY, MRN VARCHAR2(10) NOT NULL, ADM_TS TIMESTAMP NOT NULL, DISCH_TS TIMESTAMP,
  WARD_CD VARCHAR2(6), BED_NO VARCHAR2(4), DX_CD VARCHAR2(8), ATT_PHYS_ID NUMBER(8));
COMMENT ON TABLE ADM IS 'Stays of patients in the hospital.';
COMMENT ON COLUMN ADM.ADM_NO IS 'Number of the admission.';
COMMENT ON COLUMN ADM.MRN IS 'Medical record number of the patient.';
COMMENT ON COLUMN ADM.ADM_TS IS 'When the patient was admitted.';
COMMENT ON COLUMN ADM.DISCH_TS IS 'When the patient was discharged; null while in hospital.';
COMMENT ON COLUMN ADM.WARD_CD IS 'Ward in which the patient lies.';
COMMENT ON COLUMN ADM.BED_NO IS 'Bed within the ward.';
COMMENT ON COLUMN ADM.DX_CD IS 'Main diagnosis, ICD-10.';
COMMENT ON COLUMN ADM.ATT_PHYS_ID IS 'Physician in charge of the treatment.';

-- 562111
CREATE TABLE COLL_RTE (RTE_NO NUMBER(5) PRIMARY KEY, TRK_NO VARCHAR2(7), DOW NUMBER(1) NOT NULL, WASTE_TYP CHAR(2) NOT NULL,
  STOP_CNT NUMBER(5), AVG_T NUMBER(5,2), DEPOT_CD VARCHAR2(4));
COMMENT ON TABLE COLL_RTE IS 'Weekly rounds of the refuse trucks.';
COMMENT ON COLUMN COLL_RTE.RTE_NO IS 'Number of the round.';
COMMENT ON COLUMN COLL_RTE.TRK_NO IS 'Truck that usually drives it.';
COMMENT ON COLUMN COLL_RTE.DOW IS 'Day of the week, 1 = Monday.';
COMMENT ON COLUMN COLL_RTE.WASTE_TYP IS 'What is collected: RW residual, PA paper, OR organic, GL glass.';
COMMENT ON COLUMN COLL_RTE.STOP_CNT IS 'Number of stops on the way.';
COMMENT ON COLUMN COLL_RTE.AVG_T IS 'Average load in tonnes.';
COMMENT ON COLUMN COLL_RTE.DEPOT_CD IS 'Depot where the round begins and ends.';
