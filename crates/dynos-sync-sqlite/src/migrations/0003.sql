-- The highest counter that was marked as sent. Of a database from before it is not known: it is no higher than this.
ALTER TABLE dynos_state ADD COLUMN last_sent INTEGER NOT NULL DEFAULT 0;
UPDATE dynos_state SET last_sent = last_counter;
