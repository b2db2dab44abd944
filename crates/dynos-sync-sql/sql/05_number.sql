-- Commit order. Changes are numbered when their transaction commits, under the lock of their scopes' rows, which is
-- then held until the commit is done: whoever reads seq n can read every seq below n. Locks are taken in the order
-- of the scopes' names, after all rows are written: they add no circle to those in which transactions that write the
-- same rows in different orders may wait for one another, which Postgres breaks.

-- Numbers what the transaction has noted. "acts" are the changes that a push made itself; what else was noted (by
-- other writers' triggers, by cascades) follows them. Returns the acts with their numbers.
-- (A plan is kept: one for each call would cost more than small pushes do, and look the same.)
create or replace function dynos.number(acts dynos.act[]) returns dynos.act[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off as $$
declare
    me constant xid8 := pg_current_xact_id();
    now constant bigint := dynos.now_ms();
    life bigint;
    todo dynos.act[];
    scopes text[];
    names text[];
    late boolean;
begin
    with touched as (
        select scope, name, id, ord, null::bigint as n, null::bigint as o, true as act, dead as wanted,
            null::boolean as dead, writer, counter, at, seen from unnest(acts)
        union all
        select n.scope, n.name, e.id, null, n.n, e.o, false, null, n.dead, null, null, null, null
        from dynos.note n cross join unnest(n.ids) with ordinality e (id, o) where n.xid = me
    )
    -- A record has one act at most. Its newest note says whether it lives, and when it was touched: until they are
    -- numbered, "seq" and "before" are those of the note.
    select array_agg(row(ord, scope, name, id, dead, writer, counter, at, seen, n, o, act)::dynos.act) into todo from (
        select scope, name, id, max(ord) as ord, coalesce(max(n * 2 + dead::integer) % 2 = 1, bool_or(wanted)) as dead,
            max(writer) as writer, max(counter) as counter, coalesce(max(at), now) as at, max(seen) as seen,
            max(n) as n, max(o) as o, bool_or(act) as act
        from touched group by scope, name, id) t;
    delete from dynos.note where xid = me;
    if todo is null then
        return acts;
    end if;

    select array_agg(distinct scope order by scope), array_agg(distinct name) into scopes, names
    from (select distinct scope, name from unnest(todo)) t;
    insert into dynos.scope (name) select s from unnest(scopes) s
    where not exists (select from dynos.scope k where k.name = s) order by s on conflict do nothing;
    perform from dynos.scope where name = any (scopes) order by name for update;
    insert into dynos.tab (scope, name)
    select k.scope, t.name from (select distinct scope, name from unnest(todo)) t join dynos.scope k on k.name = t.scope
    on conflict do nothing;
    life := dynos.incarnation();
    insert into dynos.epoch (scope, n, start)
    select k.scope, life, k.seq from dynos.scope k where k.name = any (scopes) and k.incarnation <> life
    on conflict do nothing;

    begin
        with places as materialized (
            select k.name as scope, b.name, k.scope as place, b.tab, k.seq, b.head
            from dynos.scope k join dynos.tab b on b.scope = k.scope where k.name = any (scopes) and b.name = any (names)
        ), numbered as materialized (
            select p.place, p.tab, t.ord, t.scope, t.name, t.id, t.dead, t.writer, t.counter, t.at, t.seen, t.alone as act,
                p.seq + row_number() over (partition by p.place order by t.ord, t.seq, t.before) as seq, p.head as before,
                bool_and(t.writer is not null) over (partition by p.tab) as alone
            from unnest(todo) t join places p on p.scope = t.scope and p.name = t.name
        ), ends as (
            update dynos.scope k set seq = t.seq, incarnation = life
            from (select place, max(seq) as seq from numbered group by place) t where k.scope = t.place
        ), heads as (
            update dynos.tab b set head = t.seq
            from (select tab, max(seq) as seq from numbered group by tab) t where b.tab = t.tab
        ), new as (
            -- Not "on conflict": that takes half as long again.
            insert into dynos.change (tab, id, seq, writer, counter, at, stored, dead)
            select tab, id, seq, writer, counter, at, now, dead from numbered where act and seen is null order by seq
        ), others as (
            insert into dynos.change as c (tab, id, seq, writer, counter, at, stored, dead)
            select tab, id, seq, writer, counter, at, now, dead from numbered where not act or seen is not null order by seq
            on conflict (tab, id) do update set seq = excluded.seq, writer = excluded.writer, counter = excluded.counter,
                -- What no device stamped is later than what it replaces, also where that one's clock is ahead.
                at = case when excluded.writer is null then greatest(excluded.at, least(c.at + 1, 253402300799999))
                     else excluded.at end,
                stored = excluded.stored, dead = excluded.dead
        )
        select array_agg(row(ord, scope, name, id, dead, writer, counter, at, seen, seq, before, alone)::dynos.act
                order by ord) filter (where act),
            exists (
                select from numbered t
                -- "offset 0" keeps it a lookup of each record. As a join, the database may read all of the table's changes
                -- for each, while it knows little of a new table, and keep to that.
                left join lateral (select * from dynos.change c where c.tab = t.tab and c.id = t.id offset 0) c on true
                where t.act and t.seen is not null and c.seq is distinct from t.seen)
        into acts, late from numbered;
    exception when unique_violation then
        late := true;
    end;
    -- Nobody else's commit comes in between any more: did one since the acts were judged?
    if late then
        raise sqlstate 'DY001' using message = 'a record was changed meanwhile';
    end if;

    if (select notify from dynos.meta) then
        perform pg_notify('dynos', json_build_object('scope', t.scope, 'tables', t.tables)::text)
        from (select scope, json_agg(name order by name) as tables
              from (select distinct scope, name from unnest(todo)) d group by scope) t
        -- A longer payload would make the commit fail. Listeners look for themselves from time to time.
        where octet_length(t.scope) + octet_length(t.tables::text) < 7000;
    end if;
    return acts;
end $$;

create or replace function dynos.number_at_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from dynos.note where xid = pg_current_xact_id()) then
        perform dynos.number('{}');
    end if;
    return null;
end $$;

drop trigger if exists number_at_commit on dynos.note;
create constraint trigger number_at_commit after insert on dynos.note deferrable initially deferred
    for each row execute function dynos.number_at_commit();
