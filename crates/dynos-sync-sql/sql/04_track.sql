-- Tables of the application: which are synced, and what is noted when they change.

-- The columns of a table, and what the caller may do with each.
create or replace function dynos.columns(relation regclass) returns table (
    name name, type oid, written text, in_key boolean, not_null boolean, generated boolean,
    may_select boolean, may_insert boolean, may_update boolean
) language sql stable as $$
    select a.attname, t.base, format_type(a.atttypid, a.atttypmod), coalesce(a.attnum = any (i.indkey), false),
        a.attnotnull, a.attgenerated <> '' or (a.attidentity = 'a' and not coalesce(a.attnum = any (i.indkey), false)),
        has_column_privilege(relation, a.attnum, 'select'),
        has_column_privilege(relation, a.attnum, 'insert'),
        has_column_privilege(relation, a.attnum, 'update')
    from pg_attribute a
    join lateral (select coalesce(nullif(typbasetype, 0), oid) as base from pg_type where oid = a.atttypid) t on true
    left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    order by a.attnum
$$;

create or replace function dynos.is_number(type oid) returns boolean language sql immutable as $$
    select type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
$$;

-- The schema-qualified name, whatever the search path is.
create or replace function dynos.qualified(relation regclass) returns text language plpgsql stable as $$
begin
    return (
        select format('%I.%I', n.nspname, c.relname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation
    );
end $$;

-- Begins to sync a table, or brings what is known of it up to date after its key, or the way in which it is
-- tracked, has changed. owner: the column that holds a row's user, as tokens name users in "sub"; each user
-- then syncs the rows of their own. shared: in its place, everybody who may call syncs all rows that row-level
-- security lets them see (and learns the ids of deleted ones). name: as devices call it; the table's own if null.
create or replace function public.dynos_track(
    "table" regclass, owner name default null, shared boolean default false, name text default null
) returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    relation constant regclass := "table";
    known dynos.track;
    called constant text := coalesce(dynos_track.name, (select relname from pg_class where oid = relation));
    keys name[];
    numbers boolean[];
    types text[];
    bad text;
begin
    if (owner is null) = (not shared) then
        raise exception 'table %: name the column that holds a row''s owner, or say shared => true', called
            using hint = format('select dynos_track(%L, ''user_id'')', relation);
    end if;
    if called = '' or octet_length(called) > 128 or called ~* '^(dynos|sqlite)_' then
        raise exception 'table %: not a name that can be synced', called using hint = 'give another one: name => …';
    end if;
    if (select relkind not in ('r', 'p') from pg_class where oid = relation) then
        raise exception '% is not a table', called;
    end if;
    select array_agg(a.attname order by k.o), array_agg(dynos.is_number(t.base) order by k.o),
        array_agg(format_type(a.atttypid, null) order by k.o),
        string_agg(a.attname, ', ') filter (where not dynos.is_number(t.base)
            and t.category not in ('S', 'E') and t.base <> 'uuid'::regtype)
    into keys, numbers, types, bad
    from pg_index i
    cross join unnest(i.indkey) with ordinality k (attnum, o)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join lateral (select coalesce(nullif(typbasetype, 0), oid) as base, typcategory as category
                  from pg_type where oid = a.atttypid) t on true
    where i.indrelid = relation and i.indisprimary;
    if keys is null then
        raise exception 'table % has no primary key', called using hint = 'add one: records are told apart by it';
    elsif bad is not null then
        raise exception 'table %: its key % is of a type that no device can keep exactly', called, bad
            using hint = 'keys are integers, texts, enums or uuids';
    elsif owner is not null and not exists (select from dynos.columns(relation) c where c.name = owner) then
        raise exception 'table % has no column %', called, owner;
    end if;

    -- From here on nobody writes to the table until this transaction ends.
    execute format('lock table %s in share row exclusive mode', dynos.qualified(relation));
    select * into known from dynos.track t where t.name = called or t.relation = "table";
    if known.relation <> relation and exists (select from pg_class where oid = known.relation) then
        raise exception 'another table is synced as %', called using hint = 'give another name: name => …';
    end if;
    delete from dynos.track t where t.relation = "table" or t.name = called;
    insert into dynos.track (name, relation, owner, key, id_of_row, key_of_id, row_of_id, id_of_id)
    select called, relation, dynos_track.owner, keys,
        dynos.id_sql(array_agg(format('r.%I', k) order by o), numbers),
        array_agg(value order by o),
        string_agg(format('r.%I = %s', k, value), ' and ' order by o),
        dynos.id_sql(array_agg(value order by o), numbers)
    from (select k, o, format(case
              when cardinality(keys) > 1 then '(e.id::json ->> %3$s)::%2$s'
              when n then 'e.id::%2$s'
              else 'dynos.text_of_id(e.id)::%2$s' end, null, ty, o - 1) as value
          from unnest(keys, numbers, types) with ordinality u (k, n, ty, o)) parts;
    perform dynos.watch(relation);
    -- Rows that are there already, and rows that came and went unseen. A table that was not tracked until now may
    -- hold anything: all of its rows are told.
    perform dynos.reconcile(called, whole => known.name is null or known.name <> called
        or known.relation <> relation or known.owner is distinct from owner);
end $$;

-- Makes the triggers of a table anew.
create or replace function dynos.watch(relation regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
    event record;
begin
    for event in select * from (values
        ('insert', 'referencing new table as new_rows'),
        ('update', 'referencing old table as old_rows new table as new_rows'),
        ('delete', 'referencing old table as old_rows'),
        ('truncate', '')) e (name, tables)
    loop
        execute format('drop trigger if exists %I on %s', 'dynos_' || event.name, dynos.qualified(relation));
        execute format('create trigger %I after %s on %s %s for each statement execute function dynos.noted()',
            'dynos_' || event.name, event.name, dynos.qualified(relation), event.tables);
    end loop;
end $$;

-- Stops syncing a table: what devices declared of it is forgotten, so that they are told that there is none. Its rows
-- stay; devices keep theirs. "table": the table, or the name under which it is synced, which is what remains of a table
-- that was dropped.
create or replace function public.dynos_untrack("table" text) returns void
language plpgsql set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
    known dynos.track;
    event text;
begin
    select * into known from dynos.track t
    where t.relation = to_regclass("table") or t.name = "table" order by t.relation = to_regclass("table") desc nulls last limit 1;
    if not found then
        raise exception 'no table is synced as %', "table" using hint = 'select name, relation from dynos.track';
    end if;
    if exists (select from pg_class where oid = known.relation) then
        foreach event in array array['insert', 'update', 'delete', 'truncate'] loop
            execute format('drop trigger if exists %I on %s', 'dynos_' || event, dynos.qualified(known.relation));
        end loop;
    end if;
    delete from dynos.track t where t.name = known.name;
    update dynos.tab b set spec = null where b.name = known.name and b.spec is not null;
end $$;
-- It took a table only, once.
drop function if exists public.dynos_untrack(regclass);

-- Keeps document tables once for all users, in place of once for each.
create or replace function public.dynos_share(variadic names text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    taken text;
begin
    select t.name into taken from dynos.track t where t.name = any (names) and t.owner is not null;
    if found then
        raise exception 'table % is one of the database''s, with an owner column', taken
            using hint = format('to share it: select dynos_track(%L, shared => true)', quote_ident(taken));
    end if;
    insert into dynos.shared select unnest(names) on conflict do nothing;
end $$;

-- Which scope a row r is in, as SQL.
create or replace function dynos.scope_sql(owner name) returns text language sql immutable as $$
    select case when owner is null then quote_literal('s') else format('''u:'' || r.%I::text', owner) end
$$;

-- Notes rows that have no living change, and living changes that have no row. whole: all rows.
create or replace function dynos.reconcile(called text, whole boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    t dynos.track;
    rows text;
begin
    select * into t from dynos.track where name = called;
    rows := format('select %s as scope, %s as id from %s r', dynos.scope_sql(t.owner), t.id_of_row,
                   dynos.qualified(t.relation));
    execute format($sql$
        with row as materialized (%s),
        living as materialized (
            select s.name as scope, c.id from dynos.tab b join dynos.scope s using (scope) join dynos.change c using (tab)
            where b.name = %L and not c.dead),
        noted as (
            insert into dynos.note (scope, name, ids, dead)
            select scope, %2$L, array_agg(id), true
            from (select scope, id from living except select scope, id from row) gone group by scope)
        insert into dynos.note (scope, name, ids, dead)
        select scope, %2$L, array_agg(id), false
        from (select scope, id from row where scope is not null
              except select scope, id from living where not %3$L::boolean) new group by scope
        $sql$, rows, t.name, whole);
end $$;

-- Notes what a statement has done to a table. Owner columns that are null put a row into nobody's scope.
create or replace function dynos.noted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    t dynos.track;
    scope_id text;
begin
    select * into t from dynos.track where relation = tg_relid;
    if not found then
        return null;
    end if;
    scope_id := format('select %s as scope, %s as id', dynos.scope_sql(t.owner), t.id_of_row);
    if tg_op = 'TRUNCATE' then
        insert into dynos.note (scope, name, ids, dead)
        select s.name, t.name, array_agg(c.id), true
        from dynos.tab b join dynos.scope s using (scope) join dynos.change c using (tab)
        where b.name = t.name and not c.dead group by s.name;
        return null;
    end if;
    if tg_op in ('DELETE', 'UPDATE') then
        -- An update takes a row away where it changes its key or its owner.
        execute format($sql$
            insert into dynos.note (scope, name, ids, dead)
            select scope, %L, array_agg(id), true from (%s from old_rows r %s) gone
            where scope is not null group by scope
            $sql$, t.name, scope_id,
            case when tg_op = 'UPDATE' then format('except %s from new_rows r', scope_id) else '' end);
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        execute format($sql$
            insert into dynos.note (scope, name, ids, dead)
            select scope, %L, array_agg(id), false from (%s from new_rows r) here
            where scope is not null group by scope
            $sql$, t.name, scope_id);
    end if;
    return null;
end $$;

-- Documents may be edited with plain SQL too.
create or replace function dynos.document_noted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op in ('DELETE', 'UPDATE') then
        insert into dynos.note (scope, name, ids, dead)
        select r.scope, r.name, array_agg(r.id), true from old_rows r group by r.scope, r.name;
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        insert into dynos.note (scope, name, ids, dead)
        select r.scope, r.name, array_agg(r.id), false from new_rows r group by r.scope, r.name;
    end if;
    return null;
end $$;

drop trigger if exists dynos_insert on dynos.document;
drop trigger if exists dynos_update on dynos.document;
drop trigger if exists dynos_delete on dynos.document;
create trigger dynos_insert after insert on dynos.document referencing new table as new_rows
    for each statement execute function dynos.document_noted();
create trigger dynos_update after update on dynos.document referencing old table as old_rows new table as new_rows
    for each statement execute function dynos.document_noted();
create trigger dynos_delete after delete on dynos.document referencing old table as old_rows
    for each statement execute function dynos.document_noted();
