-- Insert as usual again.
RESET preserve_insertion_order;
RESET write_buffer_row_group_count;
