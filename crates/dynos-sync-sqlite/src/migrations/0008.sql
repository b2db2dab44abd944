-- What finds a record's entries is a number made of the record, not its name (src/tag.rs): the index has a third of the pages, and of those an
-- edit and an answer change one each.
DROP INDEX dynos_queue_record;
ALTER TABLE dynos_queue ADD COLUMN tag INTEGER NOT NULL DEFAULT 0;
CREATE INDEX dynos_queue_tag ON dynos_queue (tag);
