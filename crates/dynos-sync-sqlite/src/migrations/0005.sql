-- Which entries are ready is seen by looking through the queue from `fresh` on: below, those alone are that the index has.
-- `head`: 0 not the oldest of its record, 1 the oldest since it was appended, 2 the oldest, or ready again, since later.
-- `last_counter`, `clock` and `pending` say how it was when the row was written: what was only appended since says the rest itself (src/header.rs).
DROP INDEX dynos_queue_ready;
DROP INDEX dynos_queue_waiting;
CREATE INDEX dynos_queue_later ON dynos_queue (counter)  WHERE head = 2 AND sent = 0 AND retry_at IS NULL;
CREATE INDEX dynos_queue_retry ON dynos_queue (retry_at) WHERE head > 0 AND retry_at IS NOT NULL;
ALTER TABLE dynos_state ADD COLUMN fresh INTEGER NOT NULL DEFAULT 0;
