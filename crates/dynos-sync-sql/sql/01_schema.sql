-- The tables in which the protocol keeps its books. Nobody but the functions below touches them.

create schema if not exists dynos;
comment on schema dynos is 'dynos-sync: the books of the sync protocol. Not to be exposed through an API.';

-- One row: the identity of this data for all of its life, and the limits, which an operator may change.
create table if not exists dynos.meta (
    one boolean primary key default true check (one),
    version integer not null,
    server text not null default gen_random_uuid()::text,
    -- Raised by dynos_restored(): part of what tells one life of the database from another.
    lives bigint not null default 0,
    -- Whether a life is told by the server process (auto), or only by dynos_restored() (manual): for databases
    -- that are served by several nodes at once.
    history text not null default 'auto' check (history in ('auto', 'manual')),
    -- Whether commits are announced on the channel "dynos". Null: nobody has decided; a server decides for it.
    notify boolean,
    push_entries integer not null default 5000,
    record_bytes integer not null default 1048576,
    page_changes integer not null default 1000,
    page_bytes integer not null default 4194304,
    tables integer not null default 1000,
    tombstones interval not null default '90 days',
    outcomes interval not null default '30 days'
);

-- One row for each life of the database on its history; "life" says which.
create table if not exists dynos.incarnation (
    n bigint generated always as identity primary key,
    id text not null unique,
    life text not null unique
);

-- name: 'u:' and the subject, or 's' for what is shared. seq: the number of the newest change. This row is the
-- lock under which changes are numbered. incarnation: in which the newest change was made.
create table if not exists dynos.scope (
    scope bigint generated always as identity primary key,
    name text collate "C" not null unique,
    seq bigint not null default 0,
    incarnation bigint not null default 0
) with (fillfactor = 50);

-- The seq that a scope had reached when an incarnation first changed it.
create table if not exists dynos.epoch (
    scope bigint not null,
    n bigint not null,
    start bigint not null,
    primary key (scope, n)
);

-- The application's tables that are synced. owner: the column that holds the user; null: shared by all.
-- The last four are SQL: the id of a row r, the key that an id e.id stands for, a row r found by e.id, and the id that
-- e.id should have been.
create table if not exists dynos.track (
    name text collate "C" primary key,
    relation regclass not null unique,
    owner name,
    key name[] not null,
    id_of_row text not null,
    key_of_id text[] not null,
    row_of_id text not null,
    id_of_id text not null
);

-- A table within a scope: an application's, or one of documents. spec: as devices declared it.
-- head: the seq of its newest change. purged: of the newest tombstone that was forgotten.
create table if not exists dynos.tab (
    tab bigint generated always as identity primary key,
    scope bigint not null,
    name text collate "C" not null,
    spec json,
    head bigint not null default 0,
    purged bigint not null default 0,
    unique (scope, name)
) with (fillfactor = 70);

-- Document tables that all users share. Others exist once per user.
create table if not exists dynos.shared (name text collate "C" primary key);

-- A replica under the user who syncs it: two users who name the same id are two writers.
-- counter: the highest that was seen.
create table if not exists dynos.writer (
    writer bigint generated always as identity primary key,
    scope bigint not null,
    replica uuid not null,
    counter numeric(20) not null default 0,
    unique (scope, replica)
) with (fillfactor = 70);

-- The newest change of each record. writer: null where no replica made it. stored: when, in milliseconds.
create table if not exists dynos.change (
    tab bigint not null,
    id text collate "C" not null,
    seq bigint not null,
    writer bigint,
    counter bigint,
    at bigint not null,
    stored bigint not null,
    dead boolean not null,
    primary key (tab, id)
);
create unique index if not exists change_by_seq on dynos.change (tab, seq);
create index if not exists change_dead on dynos.change (stored) where dead;

-- What became of an entry: seq where it was applied, code and message where it was rejected.
create table if not exists dynos.outcome (
    writer bigint not null,
    counter bigint not null,
    digest bytea not null,
    seq bigint,
    code text,
    message text,
    stored bigint not null,
    primary key (writer, counter)
);
create index if not exists outcome_by_age on dynos.outcome (stored);

-- Records of tables that the database does not have. json and not jsonb: a document comes back as it was sent,
-- with its -0.0 and its 1e15, which jsonb turns into other numbers. It can be read as jsonb at any time (data::jsonb).
create table if not exists dynos.document (
    scope text collate "C" not null,
    name text collate "C" not null,
    id text collate "C" not null,
    data json not null,
    primary key (scope, name, id)
);

-- What a transaction has touched so far, one row a statement and scope. Rows live until the transaction commits.
create table if not exists dynos.note (
    n bigint generated always as identity,
    xid xid8 not null default pg_current_xact_id(),
    scope text not null,
    name text not null,
    ids text[] not null,
    dead boolean not null
);
create index if not exists note_by_transaction on dynos.note (xid);
-- Many ids are long, and are read and gone in a moment: to compress them would take longer than that.
alter table dynos.note alter column ids set storage external;

-- A change that a transaction makes. ord: its place among those of a push. seen: the record's newest change when the
-- entry was judged. Numbering fills in the rest: the change's number, the head of its table before, and whether
-- nothing else of the table was changed along with it.
do $$ begin
    create type dynos.act as (
        ord bigint, scope text, name text, id text, dead boolean, writer bigint, counter bigint, at bigint,
        seen bigint, seq bigint, before bigint, alone boolean
    );
exception when duplicate_object then null; end $$;

-- An entry of a push, as it was read. keep: whether its outcome is to be kept. unit: the transaction that it is a part of.
do $$ begin
    create type dynos.entry as (
        ord bigint, counter bigint, name text, id text, op text, base text, at bigint, data json, digest bytea,
        fields text[], scope text, tracked boolean, keep boolean, unit bigint
    );
exception when duplicate_object then null; end $$;
do $$ begin
    alter type dynos.entry add attribute unit bigint;
exception when duplicate_column then null; end $$;

-- What becomes of an entry: todo, applied, duplicate, conflict or rejected. seen: the record's newest change, living:
-- whether the record existed.
do $$ begin
    create type dynos.result as (
        status text, seen bigint, living boolean, seq bigint, code text, message text, record json
    );
exception when duplicate_object then null; end $$;

-- An entry and what has become of it so far. The two travel together: joining them again and again by their number
-- would cost more than everything else.
do $$ begin
    create type dynos.step as (e dynos.entry, r dynos.result);
exception when duplicate_object then null; end $$;

insert into dynos.meta (version) values (3) on conflict (one) do update set version = excluded.version;
