-- Throw away what the logs were folded to.
DELETE FROM ops.recounted_bills;
DELETE FROM ops.recounted_charges;
DELETE FROM ops.recounted_spend;
