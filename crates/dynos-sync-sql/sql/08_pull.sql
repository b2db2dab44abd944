-- Pull. Each call reads one snapshot: the functions are stable, and so are all that they call.

-- A page of a table's changes. seen: a later place than the cursor that the caller has seen; where it is not part of this
-- history, the cursor has expired.
create or replace function public.dynos_pull(
    replica uuid, "table" text, cursor text default null, "limit" bigint default 1000,
    unsettled json default '[]', "all" boolean default false, seen text default null
) returns json language plpgsql stable as $$
#variable_conflict use_variable
declare
    p dynos.page := dynos.page_begun(replica, "table", cursor, "limit", unsettled, "all", seen);
    listed text;
    last bigint;
    cut boolean;
begin
    loop
        -- What row-level security hides is not listed; a page that is not the last one lists something.
        select string_agg(c.shown, ',' order by c.seq), max(c.seq), bool_or(c.more)
        into listed, last, cut
        from dynos.changes(p) c;
        exit when listed is not null or not coalesce(cut, false);
        p.after := last;
    end loop;
    return ('{"changes":[' || coalesce(listed, '') || '],"settled":'
        || dynos.settled_by(p, case when cut then last else p.head end) || ',"next":'
        || to_json(case when cut then dynos.cursor_within(p.scope, last, p.floor, p.head) else dynos.cursor(p.scope, p.head) end)
        || ',"has_more":' || coalesce(cut, false) || '}')::json;
end $$;

-- A page that is to be read: where it starts and ends, what is left out.
do $$ begin
    create type dynos.page as (
        name text, tracked boolean, tab bigint, scope bigint, after bigint, floor bigint, head bigint,
        most bigint, bytes bigint, me bigint, own boolean, settled json
    );
exception when duplicate_object then null; end $$;

create or replace function dynos.page_begun(
    replica uuid, called text, token text, most bigint, unsettled json, own boolean, later text
) returns dynos.page language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    limits dynos.meta;
    p dynos.page;
    it dynos.standing;
    further dynos.standing;
    mine bigint;
    purged bigint;
    known boolean;
begin
    select * into limits from dynos.meta;
    if called is null or replica is null then
        raise sqlstate 'PT422' using message = 'a pull names a replica and a table';
    elsif json_array_length(coalesce(unsettled, '[]')) > limits.push_entries then
        raise sqlstate 'PT413' using message = format('%s unsettled counters, the limit is %s',
            json_array_length(unsettled), limits.push_entries);
    end if;
    p.name := called;
    p.me := dynos.me(replica);
    p.own := coalesce(own, false);
    p.most := least(greatest(coalesce(most, 1), 1), limits.page_changes);
    p.bytes := limits.page_bytes;
    select n.tracked, n.known into p.tracked, known from dynos.named(called) n;
    -- A table that nobody declared is empty; a cursor from before a restore is judged all the same.
    select s.scope into p.scope from dynos.scope s where s.name = dynos.scope_of(called);
    select b.tab, b.head, b.purged into p.tab, p.head, purged from dynos.tab b where b.scope = p.scope and b.name = called;
    p.head := coalesce(p.head, 0);

    it := dynos.judge(p.scope, coalesce(purged, 0), token);
    if later is not null and it.fault is distinct from 'rolled_back' then
        further := dynos.judge(p.scope, coalesce(purged, 0), later);
        if further.fault = 'malformed' then
            it := further;
        elsif further.fault = 'rolled_back' and it.fault is distinct from 'malformed' then
            -- What the caller has pushed is lost. Of others' changes it has seen those up to its cursor.
            mine := further.common;
            it.common := least(case when token is null then 0 else it.seq end, mine);
            it.fault := 'rolled_back';
        end if;
    end if;
    if it.fault = 'malformed' then
        raise sqlstate 'PT422' using message = 'the cursor is not one of this server''s';
    elsif it.fault is not null then
        raise sqlstate 'PT410' using
            message = 'this server no longer has the history that the cursor belongs to',
            detail = case it.fault when 'purged' then '{"reason":"purged"}'
                else format('{"reason":"rolled_back","common":%s%s}', it.common,
                    case when mine > it.common then format(',"own":%s', mine) end) end;
    end if;
    p.after := it.seq;
    p.floor := it.floor;
    if not known then
        -- What is left of the history of a table that was untracked is for when it is tracked again.
        p.tab := null;
        p.head := p.after;
    end if;
    select coalesce(json_object_agg(o.counter, o.seq), '{}') into p.settled
    from json_array_elements_text(coalesce(unsettled, '[]')) u (counter)
    join dynos.outcome o on o.writer = p.me and o.counter = case when u.counter ~ '^[0-9]{1,18}$' then u.counter::bigint end
    where o.seq is not null;
    return p;
end $$;

-- Those of the entries asked about that were applied before the page's end: a device that learns of a later one, and not
-- of a cursor behind it, would not notice if it was lost.
create or replace function dynos.settled_by(p dynos.page, ends bigint) returns json language sql immutable as $$
    select coalesce(json_agg(counter::bigint), '[]') from json_each_text(p.settled) s (counter, seq) where seq::bigint <= ends
$$;

-- Changes after a place, as JSON: as many as there are wanted and have room, and one at least. shown is null where the
-- caller may not see the row. more: whether others follow.
create or replace function dynos.changes(p dynos.page, out seq bigint, out shown text, out more boolean)
returns setof record language plpgsql stable as $$
declare
    t dynos.track;
    lines dynos.line[];
begin
    if p.tracked then
        t := dynos.tracked(p.name);
        execute format('select array_agg(row(e.id, e.seq, e.at, e.own, e.dead, f.record, f.here)::dynos.line order by e.seq)
            from dynos.newest($1) e
            left join lateral (select %s as record, true as here from %s r where not e.dead and %s and %s offset 0) f on true',
            dynos.record_sql(t), dynos.qualified(t.relation), t.row_of_id,
            case when t.owner is null then 'true' else format('r.%I::text = %L', t.owner, dynos.subject()) end)
        into lines using p;
    else
        lines := dynos.documents_changed(p);
    end if;
    return query select * from dynos.fitting(p, lines, dynos.scope_of(p.name) = 's');
end $$;

-- A change on its way into a page. here: whether its row can be seen.
do $$ begin
    create type dynos.line as (
        id text, seq bigint, at bigint, own boolean, dead boolean, record json, here boolean
    );
exception when duplicate_object then null; end $$;

-- The newest changes of a table after a place, one more than are wanted.
create or replace function dynos.newest(p dynos.page)
returns table (id text, seq bigint, at bigint, own boolean, dead boolean)
language plpgsql stable rows 1000 security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- The page comes from the caller's side: it is not taken at its word.
    if exists (select from dynos.tab b join dynos.scope s using (scope)
               where b.tab = p.tab and s.name = dynos.scope_of(b.name)) then
        return query select c.id, c.seq, c.at, p.own and c.writer is not null and c.writer = p.me, c.dead
            from dynos.change c
            where c.tab = p.tab and c.seq > p.after and (p.own or c.writer is null or p.me is null or c.writer <> p.me)
            order by c.seq limit p.most + 1;
    end if;
end $$;

create or replace function dynos.documents_changed(p dynos.page) returns dynos.line[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    place constant text := dynos.scope_of(p.name);
begin
    return (
        select array_agg(row(c.id, c.seq, c.at, c.own, c.dead, d.data, d.id is not null)::dynos.line order by c.seq)
        from dynos.newest(p) c
        left join lateral (select * from dynos.document d
            where d.scope = place and d.name = p.name and d.id = c.id and not c.dead offset 0) d on true);
end $$;

-- Cuts a page where it is full. A row of the caller's own that cannot be seen is gone for them; of a shared table's
-- row not even the id is told.
create or replace function dynos.fitting(
    p dynos.page, lines dynos.line[], shared boolean, out seq bigint, out shown text, out more boolean
) returns setof record language sql stable as $$
    with sized as (
        select l.*, row_number() over (order by l.seq) as n,
            sum(octet_length(l.id) + coalesce(octet_length(l.record::text), 0)) over (order by l.seq) as bytes
        from unnest(lines) l
    ), kept as (
        select *, count(*) over () < cardinality(lines) as more
        from sized where n <= p.most and (n = 1 or bytes <= p.bytes)
    )
    select seq, case when here or dead or not shared then
            '{"id":' || to_json(id) || ',"seq":' || seq || ',"at":' || at
            || case when own then ',"own":true' else '' end
            || case when here and not dead then ',"record":' || record else '' end || '}' end,
        more
    from kept
$$;

-- Where the tables' histories end.
create or replace function public.dynos_heads(replica uuid, tables json) returns json
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform dynos.mine();
    if json_array_length(tables) > 1000 then
        raise sqlstate 'PT422' using message = format('%s tables, the limit is 1000', json_array_length(tables));
    end if;
    return json_build_object(
        'server', (select server from dynos.meta),
        'last_counter', coalesce((select counter from dynos.writer where writer = dynos.me(dynos_heads.replica)), 0),
        'heads', coalesce((
            select json_object_agg(n.name, dynos.cursor(s.scope, coalesce(b.head, 0)))
            from (select distinct name from json_array_elements_text(tables) u (name)) n
            left join dynos.scope s on s.name = dynos.scope_of(n.name)
            left join dynos.tab b on b.scope = s.scope and b.name = n.name), '{}'));
end $$;
