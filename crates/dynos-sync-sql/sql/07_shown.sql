-- Reading back what became of entries: with the caller's rights, too.

-- A row r of a table as a record: what the caller may see of it, without the key, which the id carries.
create or replace function dynos.record_sql(t dynos.track) returns text language plpgsql stable as $$
begin
    return (
        select case when count(*) = 0 then '''{}''::json' else format('(select row_to_json(x) from (select %s) x)',
            string_agg(format('%s as %I', dynos.shown(format('r.%I', c.name), c.type), c.name), ', ')) end
        from dynos.columns(t.relation) c where c.may_select and not c.in_key
    );
end $$;

-- Whether the database itself may change more of a row than an entry names.
create or replace function dynos.has_a_will(relation regclass) returns boolean language plpgsql stable as $$
begin
    return (
        select exists (select from pg_trigger g where g.tgrelid = relation and not g.tgisinternal and g.tgenabled <> 'D'
                and g.tgfoid <> 'dynos.noted()'::regprocedure)
            or exists (select from dynos.columns(relation) c where c.generated)
    );
end $$;

-- Adds records to results: the stored form where it differs from what was sent, and, for what is refused, the record
-- as it is (as far as there is room in an answer).
create or replace function dynos.shown_as_stored(done dynos.step[]) returns dynos.step[] language plpgsql as $$
declare
    part record;
    stored dynos.step[];
    shown dynos.step[];
begin
    for part in select * from dynos.kinds(done) loop
        if part.status = 'rejected' then
            shown := shown || dynos.shown_as_they_are(part.steps);
        elsif part.status = 'applied' then
            execute dynos.stored_sql(dynos.tracked(part.name), part.fields) into stored using part.steps;
            shown := shown || stored;
        end if;
    end loop;
    return case when shown is null then done else dynos.replaced(done, shown) end;
end $$;

-- Steps that are to be looked at together: what was refused, and what was written to one table with the same fields.
create or replace function dynos.kinds(done dynos.step[])
returns table (status text, name text, fields text[], steps dynos.step[]) language plpgsql stable as $$
#variable_conflict use_column
declare
    first constant dynos.step := done[1];
begin
    -- Most pushes are of one kind, and need not be sorted.
    if not exists (select from unnest(done) s where row((s.r).status, (s.e).name, (s.e).fields, (s.e).op = 'delete')
            is distinct from row((first.r).status, (first.e).name, (first.e).fields, (first.e).op = 'delete')) then
        return query select (first.r).status, (first.e).name, (first.e).fields, done
        where (first.r).status = 'rejected' or (first.r).status = 'applied' and (first.e).op <> 'delete' and (first.e).tracked;
    else
        return query select (s.r).status, k.name, k.fields, array_agg(s) from unnest(done) s
        cross join lateral (select case when (s.r).status = 'applied' then (s.e).name end as name,
            case when (s.r).status = 'applied' then (s.e).fields end as fields) k
        where (s.r).status = 'rejected' or (s.r).status = 'applied' and (s.e).op <> 'delete' and (s.e).tracked
        group by 1, 2, 3;
    end if;
end $$;

-- Neither the planner nor we know how many steps there are: it is not to compare each with each.
create or replace function dynos.replaced(done dynos.step[], by dynos.step[]) returns dynos.step[]
language plpgsql stable set enable_nestloop = off as $$
begin
    return (
        select array_agg(coalesce(b.s, d.s)) from (select s, (s.e).ord from unnest(done) s) d
        left join (select s, (s.e).ord from unnest(by) s) b using (ord)
    );
end $$;

-- Of steps $1 of one table and with the same fields, those that are stored otherwise than they were sent, with what is
-- stored, as SQL. Most are stored as they were sent, to the letter. That is looked at first: it costs a tenth of reading
-- both sides.
create or replace function dynos.stored_sql(t dynos.track, fields text[]) returns text language plpgsql stable as $$
begin
    return (
        select format($sql$
            select array_agg(row(s.e, row((s.r).status, (s.r).seen, (s.r).living, (s.r).seq, (s.r).code, (s.r).message,
                f.record)::dynos.result)::dynos.step)
            from unnest($1) s cross join lateral (select (s.e).*) e
            -- Where the database has a will of its own, an update may have changed more than it says.
            cross join (select %L::boolean as will) w
            cross join lateral (
                select %s as record from %s r where %s and (w.will and (s.r).living or (%s) is distinct from true)
                -- Each record is written as JSON once, however often it is looked at.
                offset 0
            ) f where w.will and (s.r).living
                -- What was sent is there,
                or (f.record::jsonb || (e.data::jsonb - %L::text[])) <> f.record::jsonb
                -- and nothing else, where the record is new.
                or (e.op = 'replace' or not (s.r).living) and jsonb_strip_nulls(f.record::jsonb - e.fields) <> '{}'
            $sql$, dynos.has_a_will(t.relation), dynos.record_sql(t), dynos.qualified(t.relation), t.row_of_id,
            dynos.as_sent_sql(t, fields), t.key::text[])
    );
end $$;

-- Whether a row r holds what the entry e of these fields says, as it says it, and nothing else where it is new, as SQL.
-- It may be false where that is so.
create or replace function dynos.as_sent_sql(t dynos.track, fields text[]) returns text language plpgsql stable as $$
begin
    return (
        select case when fields <@ array_agg(c.name::text) then format(
            $sql$ e.data::text = (select row_to_json(x) from (select %s) x)::text
                and ((s.r).living and e.op <> 'replace' or num_nonnulls(%s) = 0) $sql$,
            (select string_agg(format('%s as %I', dynos.shown(format('r.%I', f), type), f), ', ' order by o)
             from unnest(fields) with ordinality u (f, o) join unnest(array_agg(c.name), array_agg(c.type)) k (name, type) on name = f),
            coalesce(string_agg(format('r.%I', c.name), ', ') filter (where c.name <> all (fields)), 'null'))
            else 'false' end
        from dynos.columns(t.relation) c where c.may_select and not c.in_key
    );
end $$;

-- Refused entries with the records that they are about.
create or replace function dynos.shown_as_they_are(refused dynos.step[]) returns dynos.step[] language plpgsql stable as $$
declare
    step dynos.step;
    shown dynos.step[] := '{}';
    it json;
    room bigint := 4194304;
begin
    foreach step in array refused loop
        it := dynos.current(step.e);
        room := room - coalesce(octet_length(it::text), 0);
        shown := shown || row(step.e, row((step.r).status, (step.r).seen, (step.r).living, (step.r).seq, (step.r).code,
            (step.r).message, case when room >= 0 then it end)::dynos.result)::dynos.step;
    end loop;
    return shown;
end $$;

-- The record that a refused entry is about: null where that cannot be told, {} where there is none.
create or replace function dynos.current(e dynos.entry) returns json language plpgsql stable as $$
declare
    t dynos.track;
    it json;
begin
    if e.scope is null or e.id is null then
        return null;
    elsif e.tracked then
        t := dynos.tracked(e.name);
        execute format('select %s from unnest(array[$1]) e join %s r on %s where %s',
            dynos.record_sql(t), dynos.qualified(t.relation), t.row_of_id,
            case when t.owner is null then 'true' else format('r.%I::text = %L', t.owner, dynos.subject()) end)
        into it using e;
    else
        it := dynos.document(e.name, e.id);
    end if;
    return case when it is null then '{}' else json_build_object('record', it) end;
-- The id need not be one that the table could have.
exception when data_exception or insufficient_privilege then
    return null;
end $$;

create or replace function dynos.document(called text, wanted text) returns json
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select d.data from dynos.document d
    where d.scope = dynos.scope_of(called) and d.name = called and d.id = wanted
$$;
