-- The transaction that an entry, or a letter, is a part of. `head` may be 3 now: the oldest of its record, while another record of its
-- transaction is not ready.
ALTER TABLE dynos_queue ADD COLUMN txn INTEGER;
ALTER TABLE dynos_dead  ADD COLUMN txn INTEGER;
CREATE INDEX dynos_queue_txn ON dynos_queue (txn) WHERE txn IS NOT NULL;
-- What a program writes between these two marks takes effect on the server together, or not at all:
--   BEGIN; INSERT INTO dynos_transaction VALUES ('begin'); …; INSERT INTO dynos_transaction VALUES ('end'); COMMIT;
-- They are notes of table 0: op 4 the beginning, 5 the end.
CREATE VIEW dynos_transaction (mark) AS SELECT NULL WHERE false;
CREATE TRIGGER dynos_transaction_marked INSTEAD OF INSERT ON dynos_transaction BEGIN
    SELECT RAISE(ABORT, 'dynos_transaction takes the marks begin and end') WHERE NEW.mark IS NULL OR NEW.mark NOT IN ('begin', 'end');
    INSERT INTO dynos_log (tbl, op, at) VALUES (0, iif(NEW.mark = 'begin', 4, 5), 0);
END;
