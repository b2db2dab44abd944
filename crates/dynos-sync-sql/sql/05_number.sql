-- Commit order. Changes are numbered when their transaction commits, under the lock of their scopes' rows, which is
-- then held until the commit is done: whoever reads seq n can read every seq below n. Locks are taken in the order
-- of the scopes' names, after all rows are written: they add no circle to those in which transactions that write the
-- same rows in different orders may wait for one another, which Postgres breaks.

-- Numbers what the transaction has noted. "acts" are the changes that a push made itself; what else was noted (by
-- other writers' triggers, by cascades) follows them. Returns the acts with their numbers.
create or replace function dynos.number(acts dynos.act[]) returns dynos.act[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    me constant xid8 := pg_current_xact_id();
    now constant bigint := dynos.now_ms();
    life bigint;
    todo dynos.act[];
    scopes text[];
begin
    -- The newest note of a record says whether it lives.
    with noted as (
        select distinct on (n.scope, n.name, e.id) n.scope, n.name, e.id, n.dead, n.n, e.o
        from dynos.note n cross join unnest(n.ids) with ordinality e (id, o)
        where n.xid = me order by n.scope, n.name, e.id, n.n desc, e.o desc
    ), touched as (
        select scope, name, id, ord, null::bigint as n, null::bigint as o, dead as wanted, null::boolean as dead, writer,
            counter, at, seen from unnest(acts)
        union all
        select scope, name, id, null, n, o, null, dead, null, null, null, null from noted
    )
    select array_agg(row(ord, scope, name, id, dead, writer, counter, at, seen, null, null, null)::dynos.act order by ord)
    into todo from (
        -- A record has one act at most, and one newest note.
        select scope, name, id, coalesce(max(ord), 1000000000 + row_number() over (order by max(n), max(o))) as ord,
            coalesce(bool_or(dead), bool_or(wanted)) as dead, max(writer) as writer, max(counter) as counter,
            coalesce(max(at), now) as at, max(seen) as seen
        from touched group by scope, name, id) t;
    delete from dynos.note where xid = me;
    if todo is null then
        return acts;
    end if;

    select array_agg(distinct scope order by scope) into scopes from unnest(todo);
    insert into dynos.scope (name) select s from unnest(scopes) s
    where not exists (select from dynos.scope k where k.name = s) order by s on conflict do nothing;
    perform from dynos.scope where name = any (scopes) order by name for update;
    insert into dynos.tab (scope, name)
    select distinct k.scope, t.name from unnest(todo) t join dynos.scope k on k.name = t.scope
    on conflict do nothing;

    -- Nobody else's commit comes in between any more: did one since the acts were judged?
    if exists (
        select from unnest(acts) a join dynos.scope k on k.name = a.scope
        join dynos.tab b on b.scope = k.scope and b.name = a.name
        -- "offset 0" keeps it a lookup of each record. As a join, the database may read all of the table's changes for
        -- each, while it knows little of a new table, and keep to that.
        left join lateral (select * from dynos.change c where c.tab = b.tab and c.id = a.id offset 0) c on true
        where c.seq is distinct from a.seen
    ) then
        raise sqlstate 'DY001' using message = 'a record was changed meanwhile';
    end if;

    select array_agg(row(ord, scope, name, id, dead, writer, counter, at, seen, seq, before, alone)::dynos.act order by ord)
    into todo from (
        select t.ord, t.scope, t.name, t.id, t.dead, t.writer, t.counter, t.at, t.seen,
            k.seq + row_number() over (partition by t.scope order by t.ord) as seq, b.head as before,
            bool_and(t.writer is not null) over (partition by t.scope, t.name) as alone
        from unnest(todo) t join dynos.scope k on k.name = t.scope
        join dynos.tab b on b.scope = k.scope and b.name = t.name) numbered;
    life := dynos.incarnation();
    insert into dynos.epoch (scope, n, start)
    select k.scope, life, k.seq from dynos.scope k where k.name = any (scopes) and k.incarnation <> life
    on conflict do nothing;
    update dynos.scope k set seq = t.seq, incarnation = life
    from (select scope, max(seq) as seq from unnest(todo) group by scope) t where k.name = t.scope;

    insert into dynos.change as c (tab, id, seq, writer, counter, at, stored, dead)
    select distinct on (b.tab, t.id) b.tab, t.id, t.seq, t.writer, t.counter, t.at, now, t.dead
    from unnest(todo) t join dynos.scope k on k.name = t.scope join dynos.tab b on b.scope = k.scope and b.name = t.name
    order by b.tab, t.id, t.seq desc
    on conflict (tab, id) do update set seq = excluded.seq, writer = excluded.writer, counter = excluded.counter,
        -- What no device stamped is later than what it replaces, also where that one's clock is ahead.
        at = case when excluded.writer is null then greatest(excluded.at, least(c.at + 1, 253402300799999))
             else excluded.at end,
        stored = excluded.stored, dead = excluded.dead;
    update dynos.tab b set head = t.seq
    from (select k.scope, a.name, max(a.seq) as seq from unnest(todo) a join dynos.scope k on k.name = a.scope
          group by 1, 2) t
    where b.scope = t.scope and b.name = t.name;

    if (select notify from dynos.meta) then
        perform pg_notify('dynos', json_build_object('scope', t.scope, 'tables', t.tables)::text)
        from (select scope, json_agg(distinct name) as tables from unnest(todo) group by scope) t
        -- A longer payload would make the commit fail. Listeners look for themselves from time to time.
        where octet_length(t.scope) + octet_length(t.tables::text) < 7000;
    end if;
    return (select array_agg(t order by t.ord) from unnest(todo) t where t.writer is not null);
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
