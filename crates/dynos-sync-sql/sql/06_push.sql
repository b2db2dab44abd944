-- Push. A request is read, and its entries are then judged, applied with the caller's rights, and numbered. What goes
-- wrong for one entry makes the statement fail that it shares with others; the entries are then tried one by one, each
-- in a savepoint, so that the one at fault is the one that is refused.
--
--   dynos_push ─► dynos.opened                      reads, locks the writer, answers what was answered before
--       └──────► dynos.settled ─► dynos.attempted ─► dynos.judged     compares entries with what they change
--                    │                  └─────────► dynos.write_all   a statement for each run of like entries
--                    ├──────────► dynos.shown_as_stored
--                    └──────────► dynos.number      numbers, or finds that somebody was faster: once more
--       └──────► dynos.closed                       keeps the outcomes
--
-- Each step is one statement for all entries. Those of the functions that have rights of their own keep their plans: to
-- plan for so many entries in particular takes longer than it gains, and compiling what they do takes longer than doing it.
--
-- Of these only opened, judged, number, closed and what writes documents have rights of their own. They take nobody's
-- word for who calls.

-- seen: how far the replica has seen the histories of the entries' tables: an object of cursors.
create or replace function public.dynos_push(replica uuid, entries json, seen json default '{}') returns json
language plpgsql as $$
#variable_conflict use_variable
declare
    opened constant dynos.step[] := dynos.opened(replica, entries, seen);
    part dynos.step[];
    done dynos.step[];
    acts dynos.act[];
    settled record;
begin
    -- What was answered before, and what cannot be judged.
    done := dynos.shown_as_stored(array(select s from unnest(opened) s where (s.r).status <> 'todo'));
    -- A record that occurs several times is taken one entry after the other.
    for part in select * from dynos.rounds(opened) loop
        settled := dynos.settled(replica, part);
        done := done || settled.done;
        acts := acts || settled.acts;
    end loop;
    return dynos.closed(replica, done, acts, seen);
end $$;

-- What is to be judged, so that no round holds a record twice, nor a part of a transaction.
create or replace function dynos.rounds(opened dynos.step[]) returns setof dynos.step[] language plpgsql stable as $$
begin
    -- Most pushes are one round, and need not be sorted.
    if not exists (
        select from unnest(opened) s where (s.r).status = 'todo' group by (s.e).name, (s.e).id having count(*) > 1
    ) then
        return query select array_agg(s) from unnest(opened) s where (s.r).status = 'todo' having count(*) > 0;
    elsif exists (select from unnest(opened) s where (s.e).unit is not null) then
        return query select array_agg(s order by (s.e).ord) from unnest(opened) s where (s.r).status = 'todo'
        group by (s.e).unit, case when (s.e).unit is null then (s.e).ord end order by min((s.e).ord);
    else
        return query select array_agg(p.s order by p.ord) from (
            select s, (s.e).ord, row_number() over (partition by (s.e).name, (s.e).id order by (s.e).ord) as round
            from unnest(opened) s where (s.r).status = 'todo') p
        group by p.round order by p.round;
    end if;
end $$;

-- Entries as they come. (One with a NUL does not come this far: Postgres does not read JSON that has one in it. Clients
-- refuse it themselves.)
create or replace function dynos.entries(entries json) returns dynos.entry[]
language plpgsql stable as $$
#variable_conflict use_column
begin
    return (
        select array_agg(row(
            r.ord, case when r.counter between 1 and 9223372036854775807 then r.counter::bigint end, r.name, r.id,
            r.op, r.base, case when r.at between 0 and 253402300799999 then r.at::bigint end, r.data,
            sha256(convert_to(json_build_array(r.name, r.id, r.op, r.at)::text || coalesce(r.data::text, ''), 'UTF8')),
            case when r.op = 'delete' then '{}'::text[]
                 when json_typeof(r.data) = 'object' then array(select json_object_keys(r.data)) end,
            null, null, true, r.unit)::dynos.entry)
        from rows from (json_to_recordset(entries)
                as (counter numeric, "table" text, id text, op text, base text, at numeric, data json, transaction bigint))
            with ordinality as r (counter, name, id, op, base, at, data, unit, ord)
    );
exception when data_exception then
    raise sqlstate 'PT422' using message = 'the entries are malformed';
end $$;

-- Reads a request. The writer's row is locked: a repeat that overtakes its original waits for it.
create or replace function dynos.opened(replica uuid, entries json, seen json) returns dynos.step[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
    limits dynos.meta;
    mine constant text := dynos.mine();
    me bigint;
    todo dynos.entry[];
    lost constant text[] := dynos.lost(seen);
    highest numeric;
    answered dynos.outcome[];
    forked bigint;
begin
    select * into limits from dynos.meta;
    if json_typeof(entries) is distinct from 'array' or replica is null then
        raise sqlstate 'PT422' using message = 'a push names a replica and lists entries';
    elsif json_array_length(entries) > limits.push_entries then
        raise sqlstate 'PT413' using message =
            format('%s entries, the limit is %s', json_array_length(entries), limits.push_entries);
    end if;
    insert into dynos.scope (name) select mine
    where not exists (select from dynos.scope where name = mine) on conflict do nothing;
    insert into dynos.writer (scope, replica) select s.scope, opened.replica from dynos.scope s
    where s.name = mine and dynos.me(opened.replica) is null on conflict do nothing;
    me := dynos.me(opened.replica);
    select counter into highest from dynos.writer where writer = me for update;

    todo := dynos.entries(entries);
    perform dynos.units_checked(todo);
    -- Outcomes are looked up under numbers that were used: of a push that is new there is none.
    answered := array(
        select o from (select distinct e.counter from unnest(todo) e where e.counter <= highest) e
        cross join lateral (select * from dynos.outcome k where k.writer = me and k.counter = e.counter offset 0) o);
    select min(e.counter) into forked
    from unnest(answered) o join unnest(todo) e using (counter) where o.digest <> e.digest;
    if forked is not null then
        raise sqlstate 'PT409' using detail = forked, message = format(
            'counter %s was used before for another entry: two databases use this replica''s identity', forked);
    end if;
    return dynos.together((
        with tables as materialized (
            select n.* from (select distinct name from unnest(todo)) d cross join lateral dynos.named(d.name) n
        )
        select array_agg(row(
            row(e.ord, e.counter, e.name, e.id, e.op, e.base, e.at, e.data, e.digest, e.fields, t.scope, t.tracked,
                o.writer is null and e.counter is not null, e.unit)::dynos.entry,
            row(case when o.seq is not null then 'duplicate' when o.code is not null then 'rejected'
                    -- The pull that follows says what was lost.
                    when e.name = any (lost) then 'conflict' when f.flaw is not null then 'rejected' else 'todo' end,
                null, null, case when e.name = any (lost) then coalesce(o.seq, 0) else o.seq end,
                coalesce(o.code, f.flaw[1]), coalesce(o.message, f.flaw[2]), null)::dynos.result
            )::dynos.step order by e.ord)
        from unnest(todo) e
        left join tables t on t.name = e.name
        left join unnest(answered) o on o.counter = e.counter
        cross join lateral (select case when o.writer is null then
            dynos.flaw(e, coalesce(t.known, false), t.columns, limits.record_bytes) end as flaw offset 0) f
    ));
end $$;

-- A transaction is in one piece, and names a record once.
create or replace function dynos.units_checked(todo dynos.entry[]) returns void language plpgsql as $$
declare
    torn bigint;
begin
    if not exists (select from unnest(todo) e where e.unit is not null) then
        return;
    end if;
    select unit into torn from unnest(todo) e where e.unit is not null group by unit
    having max(ord) - min(ord) + 1 > count(*) or count(distinct (name, id)) < count(*) limit 1;
    if torn is not null then
        raise sqlstate 'PT422' using message = format('transaction %s is not in one piece, or names a record twice', torn);
    end if;
end $$;

-- Of a transaction of which one entry cannot take effect none does. What was answered before stays answered.
create or replace function dynos.together(done dynos.step[]) returns dynos.step[] language plpgsql stable as $$
begin
    if not exists (
        select from unnest(done) s where (s.e).unit is not null and (s.r).status in ('conflict', 'rejected')
    ) then
        return done;
    end if;
    return (
        with units as materialized (
            select (s.e).unit, bool_or((s.r).status = 'conflict') as conflicts,
                max((s.r).seq) filter (where (s.r).status = 'conflict') as seq
            from unnest(done) s where (s.e).unit is not null
            group by 1 having bool_or((s.r).status in ('conflict', 'rejected'))
        )
        select array_agg(case
            when u.unit is null or not (s.e).keep or (s.r).status = 'conflict'
                or (s.r).status = 'rejected' and not u.conflicts then s
            when u.conflicts then
                row(s.e, row('conflict', null, null, u.seq, null, null, null)::dynos.result)::dynos.step
            else dynos.refused(s.e, 'transaction', 'another edit of its transaction was refused')
        end order by (s.e).ord)
        from unnest(done) s left join units u on u.unit = (s.e).unit
    );
end $$;

create or replace function dynos.refused(e dynos.entry, code text, reason text) returns dynos.step language sql immutable as $$
    select row(e, row('rejected', null, null, null, code, left(reason, 400), null)::dynos.result)::dynos.step
$$;

-- The tables of whose history the caller has seen more than there is.
create or replace function dynos.lost(seen json) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    faults text[];
    lost text[];
begin
    select array_agg((j).fault), array_agg(t.name) filter (where (j).fault = 'rolled_back') into faults, lost
    from json_each_text(coalesce(seen, '{}')) t (name, cursor)
    left join dynos.scope s on s.name = dynos.scope_of(t.name)
    cross join lateral dynos.judge(s.scope, 0, t.cursor) j;
    if 'malformed' = any (faults) then
        raise sqlstate 'PT422' using message = 'the cursor is not one of this server''s';
    end if;
    return coalesce(lost, '{}');
end $$;

-- The caller's replica, as the books know it.
create or replace function dynos.me(replica uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select w.writer from dynos.writer w join dynos.scope s using (scope)
        where s.name = dynos.mine() and w.replica = me.replica
    );
end $$;

-- What a table's name stands for, for the caller. columns: null in a document table.
create or replace function dynos.named(wanted text)
returns table (name text, scope text, known boolean, tracked boolean, columns text[])
language plpgsql stable rows 1 security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    -- A table that was dropped is not known until its operator untracks it.
    select wanted, s.scope, c.relation is not null or t.name is null and exists (
            select from dynos.tab b join dynos.scope k using (scope)
            where k.name = s.scope and b.name = wanted and b.spec is not null),
        c.relation is not null,
        case when c.relation is not null then
            (select array_agg(a.attname::text) from pg_attribute a
             where a.attrelid = c.relation and a.attnum > 0 and not a.attisdropped) end
    from (select dynos.scope_of(wanted) as scope) s
    left join dynos.track t on t.name = wanted
    left join lateral (select oid as relation from pg_class where oid = t.relation) c on true;
end $$;

-- What can be said against an entry without looking at its record: a code and a message.
drop function if exists dynos.fault(dynos.entry, boolean, text[], bigint);
create or replace function dynos.flaw(e dynos.entry, known boolean, columns text[], record_bytes bigint) returns text[]
language sql stable as $$
    select case
        when e.counter is null then array['invalid', 'the counter is out of range']
        when e.name is null or e.id is null or octet_length(e.id) not between 1 and 1024
            then array['invalid', 'the id has 1 to 1024 bytes']
        when e.op is null or e.op not in ('upsert', 'replace', 'patch', 'delete')
            then array['invalid', 'the operation is unknown']
        when e.at is null then array['invalid', 'the edit''s time is out of range']
        when not known then array['unknown_table', format('table %s was not declared', left(e.name, 128))]
        when e.fields is null then array['invalid', 'the entry has no data']
        when octet_length(e.data::text) > record_bytes then
            array['too_large', format('%s bytes, the limit is %s', octet_length(e.data::text), record_bytes)]
        -- Most hold no further object or array, which is seen fastest.
        when (strpos(e.data::text, '[') > 0 or strpos(substr(e.data::text, 2), '{') > 0)
            and length(e.data::text) - length(translate(e.data::text, '{[', '')) > 64 and dynos.depth(e.data) > 64
            then array['invalid', 'nested deeper than 64 levels']
        when columns is not null and not e.fields <@ columns then array['unknown_column',
            format('table %s has no column %s', e.name, left(dynos.stranger(e.fields, columns), 128))]
    end
$$;

create or replace function dynos.stranger(fields text[], columns text[]) returns text language sql immutable as $$
    select f from unnest(fields) f where f <> all (columns) order by f limit 1
$$;

-- The fields that the table has no column for.
create or replace function dynos.strangers(e dynos.entry) returns json language sql stable as $$
    select coalesce(json_agg(f order by f), '[]')
    from dynos.named(e.name) n cross join unnest(e.fields) f where n.columns is not null and f <> all (n.columns)
$$;

-- Has entries of different records take effect, as often as somebody else is faster.
create or replace function dynos.settled(
    replica uuid, todo dynos.step[], out done dynos.step[], out acts dynos.act[]
) language plpgsql as $$
begin
    for try in 1 .. 10 loop
        begin
            done := dynos.shown_as_stored(dynos.attempted(replica, todo));
            acts := dynos.pushed(replica, done);
            done := dynos.with_numbers(done, acts);
            return;
        exception when sqlstate 'DY001' then null;
        end;
    end loop;
    raise sqlstate 'PT503' using message = 'these records change too fast: try again';
end $$;

-- Numbers what was applied, as changes of the caller's replica.
create or replace function dynos.pushed(replica uuid, done dynos.step[]) returns dynos.act[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    me constant bigint := dynos.me(replica);
begin
    return dynos.number((
        with tables as materialized (
            select name, dynos.scope_of(name) as scope from (select distinct (s.e).name from unnest(done) s) n
        )
        select array_agg(row((s.e).ord, t.scope, t.name, (s.e).id, (s.e).op = 'delete', me, (s.e).counter, (s.e).at,
            (s.r).seen, null, null, null)::dynos.act)
        from unnest(done) s join tables t on t.name = (s.e).name where (s.r).status = 'applied'));
end $$;

-- Neither the planner nor we know how many entries there are: it is not to compare each with each.
create or replace function dynos.with_numbers(done dynos.step[], acts dynos.act[]) returns dynos.step[]
language plpgsql stable set enable_nestloop = off as $$
begin
    return (
        select array_agg(row(s.e, row((s.r).status, (s.r).seen, (s.r).living, coalesce(a.seq, (s.r).seq), (s.r).code,
            (s.r).message, (s.r).record)::dynos.result)::dynos.step)
        from unnest(done) s left join unnest(acts) a on a.ord = (s.e).ord
    );
end $$;

-- Judges and writes, all at once or, where that fails, unit by unit: an entry, or a transaction.
create or replace function dynos.attempted(replica uuid, todo dynos.step[]) returns dynos.step[]
language plpgsql as $$
declare
    done dynos.step[];
    unit dynos.step[];
    state text;
    refusal text;
    reason text;
    culprit bigint;
begin
    begin
        done := dynos.together(dynos.judged(replica, todo));
        perform dynos.write_all(done);
        perform dynos.constraints_checked();
        return done;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, reason = message_text;
        refusal := dynos.refusal(state);
        if refusal is null then
            raise;
        end if;
    end;
    if cardinality(todo) = 1 then
        return array[dynos.refused((todo[1]).e, refusal, reason)];
    elsif not exists (select from unnest(todo) s where (s.e).unit is distinct from ((todo[1]).e).unit)
        and ((todo[1]).e).unit is not null then
        culprit := dynos.culprit(replica, todo);
        return dynos.together(array(
            select case when culprit is null or (s.e).ord = culprit then dynos.refused(s.e, refusal, reason) else s end
            from unnest(todo) s));
    end if;
    done := '{}';
    for unit in
        select array_agg(s order by (s.e).ord) from unnest(todo) s
        group by (s.e).unit, case when (s.e).unit is null then (s.e).ord end order by min((s.e).ord)
    loop
        done := done || dynos.attempted(replica, unit);
    end loop;
    return done;
end $$;

-- Which entry of a transaction cannot be written; null where each can, but not all.
create or replace function dynos.culprit(replica uuid, todo dynos.step[]) returns bigint language plpgsql as $$
declare
    each dynos.step;
    place bigint;
begin
    foreach each in array todo loop
        place := (each.e).ord;
        perform dynos.write_all(dynos.judged(replica, array[each]));
    end loop;
    place := null;
    raise sqlstate 'DY002';
exception
    when sqlstate 'DY002' then return null;
    when others then
        if dynos.refusal(sqlstate) is null then
            raise;
        end if;
        return place;
end $$;

-- The protocol's word for an error that an entry causes; null for one that it does not cause.
create or replace function dynos.refusal(state text) returns text language sql immutable as $$
    select case
        when left(state, 2) in ('08', '25', '3D', '40', '53', '55', '57', '58', 'DY', 'F0', 'XX') or state = '42601' then null
        when state = '42501' then 'forbidden'
        when state = '42703' then 'unknown_column'
        when state = '42P01' then 'unknown_table'
        when left(state, 2) = '54' then 'too_large'
        when left(state, 2) in ('21', '22', '42') then 'invalid'
        else 'constraint'
    end
$$;

-- Checks now what the application's tables would check at the commit.
create or replace function dynos.constraints_checked() returns void language plpgsql as $$
declare
    names text;
begin
    select string_agg(format('%I.%I', n.nspname, c.conname), ', ') into names
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
    where c.condeferrable and c.connamespace <> 'dynos'::regnamespace;
    if names is not null then
        execute 'set constraints ' || names || ' immediate';
        execute 'set constraints ' || names || ' deferred';
    end if;
end $$;

-- Compare and set: an entry may take effect if nobody else changed the record since its author saw it. What is
-- "applied" then is yet to be written.
create or replace function dynos.judged(replica uuid, todo dynos.step[]) returns dynos.step[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
    me constant bigint := dynos.me(replica);
begin
    return (
        with tables as materialized (
            select t.name, b.tab, k.scope, coalesce(b.purged, 0) as purged
            from (select distinct (s.e).name from unnest(todo) s) t
            left join dynos.scope k on k.name = dynos.scope_of(t.name)
            left join dynos.tab b on b.scope = k.scope and b.name = t.name
        ), bases as materialized (
            select d.name, d.base, t.tab, j.fault, j.seq
            from (select distinct (s.e).name, (s.e).base from unnest(todo) s) d join tables t using (name)
            cross join lateral dynos.judge(t.scope, t.purged, d.base) j
        )
        select array_agg(row(s.e, case
            when b.fault = 'malformed' then
                row('rejected', null, null, null, 'invalid', 'the base is not a cursor of this server', null)::dynos.result
            when c.writer = me and (s.e).counter <= c.counter then
                row('duplicate', c.seq, null, c.seq, null, null, null)::dynos.result
            when c.writer is distinct from me and c.seq > case when b.fault is null then b.seq else 0 end
                -- What its author saw is not this server's history: the pull that follows says so.
                or b.fault is not null then row('conflict', c.seq, null, coalesce(c.seq, 0), null, null, null)::dynos.result
            when (s.e).op = 'patch' and coalesce(c.dead, true) then
                row('rejected', c.seq, false, null, 'not_found', 'there is no such record', null)::dynos.result
            else row('applied', c.seq, not coalesce(c.dead, true), null, null, null, null)::dynos.result
        end)::dynos.step order by (s.e).ord)
        from unnest(todo) s
        join bases b on b.name = (s.e).name and b.base is not distinct from (s.e).base
        left join lateral (select * from dynos.change c where c.tab = b.tab and c.id = (s.e).id offset 0) c on true
    );
end $$;

-- Keeps outcomes, and tells how the heads moved.
create or replace function dynos.closed(replica uuid, done dynos.step[], acts dynos.act[], seen json) returns json
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off as $$
#variable_conflict use_column
declare
    me constant bigint := dynos.me(replica);
    -- The caller has yet to learn where the histories of these tables end now.
    lost constant text[] := dynos.lost(seen);
    now constant bigint := dynos.now_ms();
begin
    insert into dynos.outcome (writer, counter, digest, seq, code, message, stored)
    -- One request may hold an entry twice.
    select distinct on ((s.e).counter) me, (s.e).counter, (s.e).digest, (s.r).seq, (s.r).code, (s.r).message, now
    from unnest(done) with ordinality s (e, r, o)
    where (s.e).keep and (s.r).status in ('applied', 'duplicate', 'rejected') order by (s.e).counter, s.o;
    update dynos.writer set counter = greatest(counter, m.newest)
    from (select max((s.e).counter) as newest from unnest(done) s
          where (s.e).keep and (s.r).status in ('applied', 'duplicate', 'rejected')) m
    where writer = me and m.newest > counter;

    return json_build_object(
        'results', coalesce((select json_agg(dynos.result_json(s.e, s.r) order by (s.e).ord) from unnest(done) s), '[]'),
        'heads', coalesce((
            select json_object_agg(t.name, json_build_object(
                -- Where the transaction changed more than the entries say, the device has to look.
                'before', dynos.cursor(k.scope, case when a.alone then a.before else coalesce(b.head, 0) end),
                'after', dynos.cursor(k.scope, coalesce(b.head, 0))))
            from (select distinct (s.e).name from unnest(done) s where (s.e).name <> all (lost)) t
            left join dynos.scope k on k.name = dynos.scope_of(t.name)
            left join dynos.tab b on b.scope = k.scope and b.name = t.name
            left join (select name, min(before) as before, bool_and(alone) as alone
                       from unnest(acts) group by name) a on a.name = t.name), '{}'));
end $$;

drop function if exists dynos.result_json(dynos.result);
create or replace function dynos.result_json(e dynos.entry, r dynos.result) returns json language sql stable as $$
    select case
        when r.status = 'conflict' then json_build_object('status', 'conflict', 'seq', r.seq)
        when r.status = 'rejected' and r.code = 'unknown_column' then
            json_build_object('status', 'rejected', 'code', r.code, 'message', r.message,
                'unknown_fields', dynos.strangers(e), 'current', r.record)
        when r.status = 'rejected' and r.record is null then
            json_build_object('status', 'rejected', 'code', r.code, 'message', r.message)
        when r.status = 'rejected' then
            json_build_object('status', 'rejected', 'code', r.code, 'message', r.message, 'current', r.record)
        when r.record is null then json_build_object('status', r.status, 'seq', r.seq)
        else json_build_object('status', r.status, 'seq', r.seq, 'record', r.record)
    end
$$;
