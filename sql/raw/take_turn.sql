-- Claim this transaction's turn to ingest: a second one in sight of the first conflicts here.
UPDATE raw.ingest_turn SET turn = turn + 1;
