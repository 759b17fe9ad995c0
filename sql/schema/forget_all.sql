-- Have everything that is derived from raw built from the start.
DELETE FROM ops.derivations;
DELETE FROM ops.staged_files;
