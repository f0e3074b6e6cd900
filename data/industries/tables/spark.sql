-- 336110
CREATE TABLE weld_measurements (
  vin STRING COMMENT 'Car body the weld belongs to',
  robot_id INT COMMENT 'Welding robot',
  spot_no INT COMMENT 'Number of the weld spot in the drawing',
  current_ka DOUBLE COMMENT 'Peak current in kiloamperes',
  force_kn DOUBLE COMMENT 'Electrode force in kilonewtons',
  splash BOOLEAN COMMENT 'Molten metal was thrown out',
  measured_at TIMESTAMP COMMENT 'Time stamp of the controller'
) COMMENT 'Process data of each spot weld in the body shop';

-- 484121
CREATE TABLE shipments (
  shipment_no STRING COMMENT 'Number on the waybill',
  shipper_id BIGINT COMMENT 'Customer who sends the goods',
  consignee STRING COMMENT 'Name of the receiver',
  pallets INT COMMENT 'Pallet places needed on the truck',
  gross_kg DOUBLE COMMENT 'Gross weight including packaging',
  eta TIMESTAMP COMMENT 'Expected arrival at the receiver',
  pod_scan STRING COMMENT 'Path of the scanned proof of delivery',
  incoterm STRING COMMENT 'Delivery term, for example DAP'
) COMMENT 'Freight orders for long-distance trucking';

-- 311511
CREATE TABLE milk_intake (
  tanker_trip BIGINT COMMENT 'Trip of the milk tanker',
  farm_no INT COMMENT 'Farm that delivered',
  litres DOUBLE COMMENT 'Volume pumped in',
  fat_pct DOUBLE COMMENT 'Fat content in percent',
  protein_pct DOUBLE COMMENT 'Protein content in percent',
  temp_c DOUBLE COMMENT 'Temperature on arrival in degrees Celsius',
  antibiotic_test STRING COMMENT 'neg or pos; positive milk is thrown away'
) COMMENT 'Raw milk received from farms, with the quality that payment depends on';

-- 236220
CREATE TABLE change_orders (
  co_no STRING COMMENT 'Number of the change order',
  project_code STRING COMMENT 'Building project',
  raised_by STRING COMMENT 'Who asked for the change: owner, architect or contractor',
  cost_delta DECIMAL(12,2) COMMENT 'Addition to the contract sum; negative for savings',
  days_delta INT COMMENT 'Working days by which completion moves',
  approved_on DATE COMMENT 'Day the owner signed',
  reason STRING COMMENT 'Why the work differs from the contract'
) COMMENT 'Changes to building contracts after signing';

-- 424480
CREATE TABLE produce_lots (
  lot_code STRING COMMENT 'Code for tracing goods back to the grower',
  gtin STRING COMMENT 'Global trade item number of the carton',
  origin_cc STRING COMMENT 'Country in which it was grown, ISO code',
  packed_on DATE COMMENT 'Day of packing',
  best_before DATE COMMENT 'Last day of best quality',
  cartons_in INT COMMENT 'Cartons received',
  cartons_dumped INT COMMENT 'Cartons thrown away as spoilt'
) COMMENT 'Fruit and vegetables by lot, from the dock to the shop';

-- 813110
CREATE TABLE donations (
  donation_id BIGINT COMMENT 'Running number',
  donor_id BIGINT COMMENT 'Member or friend who gave; null if anonymous',
  received_on DATE COMMENT 'Date the money arrived',
  amount DECIMAL(10,2) COMMENT 'Sum given, in local currency',
  purpose STRING COMMENT 'What it is meant for, such as the roof or the choir',
  receipt_sent BOOLEAN COMMENT 'Whether the tax receipt has gone out'
) COMMENT 'Gifts to the parish';

-- 541511
CREATE TABLE tickets (
  ticket_id BIGINT COMMENT 'Id in the issue tracker',
  epic_key STRING COMMENT 'Larger piece of work it is part of',
  assignee STRING COMMENT 'Developer working on it',
  story_pts INT COMMENT 'Estimated effort in story points',
  opened_at TIMESTAMP COMMENT 'When it was created',
  first_resp_min INT COMMENT 'Minutes until somebody first answered',
  sev TINYINT COMMENT 'Severity from 1 (system down) to 4 (cosmetic)',
  reopened INT COMMENT 'How often it was closed and opened again'
) COMMENT 'Bugs and wishes of our clients';
