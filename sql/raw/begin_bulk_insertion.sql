-- Have inserts write whole row groups, each thread its own, in whatever order they come.
SET preserve_insertion_order = false;
SET write_buffer_row_group_count = 1;
