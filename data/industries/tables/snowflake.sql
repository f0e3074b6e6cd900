-- 458110
CREATE TABLE fct_order_line (
  order_line_key NUMBER(38,0) NOT NULL PRIMARY KEY COMMENT 'Surrogate key of the order line',
  order_id VARCHAR NOT NULL COMMENT 'Order number the shopper sees in the confirmation mail',
  product_key NUMBER(38,0) NOT NULL COMMENT 'Foreign key to the product dimension',
  ordered_at TIMESTAMP_NTZ NOT NULL COMMENT 'Time of checkout, UTC',
  quantity NUMBER(6,0) NOT NULL COMMENT 'Pieces ordered',
  net_amount NUMBER(12,2) NOT NULL COMMENT 'Line total after discounts, before tax',
  discount_amount NUMBER(12,2) COMMENT 'What vouchers and promotions took off',
  is_returned BOOLEAN COMMENT 'True if at least one piece was sent back'
) COMMENT = 'One row per product in an order of the web shop';

-- 519290
CREATE TABLE stg_page_views (
  event_id VARCHAR NOT NULL COMMENT 'Unique id that the browser gave to the event',
  visitor_id VARCHAR COMMENT 'Cookie of the visitor; null without consent',
  url VARCHAR COMMENT 'Address of the page without its query string',
  referrer VARCHAR COMMENT 'Page the visitor came from',
  viewed_at TIMESTAMP_NTZ COMMENT 'Time by the server''s clock',
  dwell_ms NUMBER(10,0) COMMENT 'Milliseconds until the visitor left the page',
  device_class VARCHAR COMMENT 'desktop, tablet or phone',
  ab_variant VARCHAR COMMENT 'Variant of the running experiment that was shown'
) COMMENT = 'Raw page views, as they arrive from the tracker';

-- 561320
CREATE TABLE dim_temp_worker (
  worker_key NUMBER(38,0) NOT NULL COMMENT 'Key of this version of the worker',
  worker_no VARCHAR(10) NOT NULL COMMENT 'Personnel number',
  full_name VARCHAR COMMENT 'First and last name',
  skill_group VARCHAR COMMENT 'Trade in which the worker can be placed',
  home_branch VARCHAR COMMENT 'Branch office that looks after the worker',
  valid_from DATE COMMENT 'First day on which this version is true',
  valid_to DATE COMMENT 'Last day on which this version is true',
  is_current BOOLEAN COMMENT 'True for the newest version'
) COMMENT = 'Temporary workers with their history (slowly changing dimension, type 2)';

-- 517112
CREATE TABLE usage_records (
  record_id NUMBER NOT NULL PRIMARY KEY COMMENT 'Id given by the mediation system',
  msisdn VARCHAR(15) NOT NULL COMMENT 'Phone number that was charged',
  cell_id VARCHAR(12) COMMENT 'Radio cell at the beginning',
  started_at TIMESTAMP_NTZ NOT NULL COMMENT 'Beginning of the call or data session',
  duration_s NUMBER(8) COMMENT 'Length in seconds; null for messages',
  bytes_down NUMBER(18) COMMENT 'Data received by the phone',
  bytes_up NUMBER(18) COMMENT 'Data sent by the phone',
  roaming BOOLEAN COMMENT 'Whether it happened in a foreign network'
) COMMENT = 'Calls, messages and data sessions that mobile customers are billed for';

-- 523940
CREATE TABLE positions_daily (
  portfolio_id VARCHAR NOT NULL COMMENT 'Client portfolio',
  isin CHAR(12) NOT NULL COMMENT 'International securities identification number',
  as_of DATE NOT NULL COMMENT 'Business day of the snapshot',
  units NUMBER(18,6) COMMENT 'Number of shares or nominal held',
  price_close NUMBER(18,6) COMMENT 'Closing price in the currency of the security',
  mkt_val_base NUMBER(18,2) COMMENT 'Market value in the portfolio''s currency',
  accrued_int NUMBER(18,2) COMMENT 'Interest earned but not yet paid, for bonds'
) COMMENT = 'Holdings of every portfolio at the end of each business day';

-- 512110
CREATE TABLE shooting_days (
  production_id NUMBER NOT NULL COMMENT 'Film or series',
  shoot_date DATE NOT NULL COMMENT 'Calendar day',
  unit_name VARCHAR COMMENT 'Main unit or second unit',
  call_time TIME COMMENT 'When the crew has to be on set',
  wrap_time TIME COMMENT 'When shooting ended',
  pages_shot NUMBER(5,3) COMMENT 'Script pages completed, in eighths',
  overtime_h NUMBER(4,2) COMMENT 'Hours paid as overtime'
) COMMENT = 'Daily production reports, one row per unit and day';

-- 621610
CREATE TABLE home_visits (
  visit_id NUMBER NOT NULL PRIMARY KEY COMMENT 'Unique number of the visit',
  client_id NUMBER NOT NULL COMMENT 'Person who is cared for',
  carer_id NUMBER COMMENT 'Nurse or carer sent',
  planned_start TIMESTAMP_NTZ COMMENT 'Start according to the roster',
  checked_in TIMESTAMP_NTZ COMMENT 'Arrival, scanned at the door',
  checked_out TIMESTAMP_NTZ COMMENT 'Departure, scanned at the door',
  tasks_done ARRAY COMMENT 'Codes of the services that were performed',
  signature_ok BOOLEAN COMMENT 'Whether the client signed'
) COMMENT = 'Visits of the home care service, planned and done';
