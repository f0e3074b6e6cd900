-- 722511
CREATE TABLE reservations (
  reservation_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY COMMENT 'Number of the booking, given when the guest calls',
  guest_name VARCHAR(80) NOT NULL COMMENT 'Name under which the table is held',
  party_size TINYINT NOT NULL COMMENT 'How many people are expected',
  table_no SMALLINT COMMENT 'Table assigned by the host; empty until then',
  starts_at DATETIME NOT NULL COMMENT 'Date and time of arrival',
  status CHAR(1) NOT NULL DEFAULT 'B' COMMENT 'B = booked, S = seated, N = no-show, C = cancelled',
  allergies VARCHAR(200) COMMENT 'Allergies and diets the guest told us about'
) COMMENT='Table bookings of the restaurant, one row per party and evening';

-- 811111
CREATE TABLE repair_orders (
  ro_no INT NOT NULL PRIMARY KEY COMMENT 'Repair order number printed on the job card',
  veh_vin CHAR(17) NOT NULL COMMENT 'Vehicle identification number',
  odo_in INT COMMENT 'Odometer reading when the car was brought in, in kilometres',
  complaint TEXT COMMENT 'What the customer says is wrong',
  tech_id SMALLINT COMMENT 'Mechanic who does the work',
  lab_hrs DECIMAL(5,2) COMMENT 'Hours of labour charged',
  parts_amt DECIMAL(9,2) COMMENT 'Price of all parts before tax',
  promised_on DATE COMMENT 'Day on which the car was promised to be ready'
) COMMENT='Jobs of the garage from the front desk to the invoice';

-- 485310
CREATE TABLE rides (
  ride_id BIGINT NOT NULL PRIMARY KEY COMMENT 'Identifies the ride',
  cab_no VARCHAR(6) NOT NULL COMMENT 'Licence number painted on the cab',
  drv_id INT NOT NULL COMMENT 'Driver at the wheel',
  pickup_ts DATETIME NOT NULL COMMENT 'When the meter was started',
  dropoff_ts DATETIME COMMENT 'When the meter was stopped; empty during the ride',
  dist_km DECIMAL(6,2) COMMENT 'Distance driven with the passenger, in km',
  fare_amt DECIMAL(7,2) COMMENT 'Fare shown by the meter, without tip',
  pay_cd CHAR(2) COMMENT 'How it was paid: CA cash, CC card, AC account'
) COMMENT='Every taxi ride since the meters went digital';

-- 713940
CREATE TABLE memberships (
  member_id INT NOT NULL PRIMARY KEY COMMENT 'Number on the membership card',
  plan_code VARCHAR(10) NOT NULL COMMENT 'Tariff the member signed up for',
  joined_on DATE NOT NULL COMMENT 'First day of the membership',
  frozen_until DATE COMMENT 'Membership rests until this day, for illness or travel',
  monthly_fee DECIMAL(6,2) NOT NULL COMMENT 'What is debited each month, in euros',
  locker_no SMALLINT COMMENT 'Rented locker, if any',
  last_visit DATETIME COMMENT 'Latest time the card opened the turnstile'
) COMMENT='Members of the gym and what they pay';

-- 621210
CREATE TABLE appt (
  appt_id INT NOT NULL PRIMARY KEY COMMENT 'Primary key of appointments',
  pat_id INT NOT NULL COMMENT 'Patient who is treated',
  chair_no TINYINT COMMENT 'Treatment chair',
  prov_id INT COMMENT 'Dentist or hygienist in charge',
  appt_dt DATETIME NOT NULL COMMENT 'Scheduled start of the treatment',
  dur_min SMALLINT COMMENT 'Planned length in minutes',
  proc_cd VARCHAR(8) COMMENT 'Code of the dental procedure',
  noshow_flg TINYINT(1) NOT NULL DEFAULT 0 COMMENT '1 if the patient did not come'
) COMMENT='Appointment book of the dental practice';

-- 444140
CREATE TABLE stock_items (
  sku VARCHAR(20) NOT NULL PRIMARY KEY COMMENT 'Stock keeping unit',
  descr VARCHAR(120) NOT NULL COMMENT 'Text on the shelf label',
  uom VARCHAR(5) NOT NULL COMMENT 'Unit of measure it is sold in: piece, metre, kilo',
  aisle VARCHAR(4) COMMENT 'Aisle of the store',
  qty_oh INT NOT NULL COMMENT 'Quantity on hand at the last count',
  reord_pt INT COMMENT 'Reorder when the stock falls below this',
  supp_id INT COMMENT 'Supplier we usually buy it from',
  rtl_prc DECIMAL(8,2) NOT NULL COMMENT 'Retail price including VAT'
) COMMENT='Goods of the hardware store';

-- 812112
CREATE TABLE treatments (
  treatment_id INT NOT NULL PRIMARY KEY COMMENT 'Key of the treatment',
  title VARCHAR(60) NOT NULL COMMENT 'Name on the price list',
  minutes SMALLINT NOT NULL COMMENT 'Time to block in the calendar',
  price DECIMAL(6,2) NOT NULL COMMENT 'List price; a stylist may have her own',
  needs_patch_test TINYINT(1) NOT NULL COMMENT 'Whether a skin test is due 48 hours before',
  retired_on DATE COMMENT 'Not offered any more from this day on'
) COMMENT='Services that the salon offers';

-- 531110
CREATE TABLE leases (
  lease_no VARCHAR(12) NOT NULL PRIMARY KEY COMMENT 'Number of the lease contract',
  unit_no VARCHAR(8) NOT NULL COMMENT 'Flat that is let',
  tenant_id INT NOT NULL COMMENT 'Main tenant, who signed',
  rent_cold DECIMAL(8,2) NOT NULL COMMENT 'Monthly rent without heating and water',
  svc_charge DECIMAL(8,2) COMMENT 'Monthly advance on service charges',
  deposit DECIMAL(8,2) COMMENT 'Security paid at the start and returned at the end',
  notice_given DATE COMMENT 'Day on which either side gave notice',
  move_out DATE COMMENT 'Day the keys were handed back'
) COMMENT='Rental contracts of our houses, current and ended';
