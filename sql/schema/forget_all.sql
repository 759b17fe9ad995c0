-- Have everything that is derived from raw built from the start.
DELETE FROM ops.derivations;
DELETE FROM ops.staged_files;
DELETE FROM ops.recounted_files;
DELETE FROM ops.recounted_bills;
DELETE FROM ops.recounted_charges;
DELETE FROM ops.recounted_spend;
