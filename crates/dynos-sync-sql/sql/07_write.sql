-- Writing entries into tables, and reading back what became of them: with the caller's rights, so that privileges and
-- row-level security decide.

-- Writes what was found in order. Entries that are alike and follow one another are one statement.
create or replace function dynos.written(todo dynos.step[]) returns dynos.step[] language plpgsql as $$
declare
    run record;
begin
    for run in
        select name, bool_or(tracked) as tracked, verb, fields, array_agg(e order by ord) as entries
        from (
            select s.e, (s.e).ord, (s.e).name, (s.e).tracked, verb, (s.e).fields, row_number() over (order by (s.e).ord)
                - row_number() over (partition by (s.e).name, verb, (s.e).fields order by (s.e).ord) as island
            from unnest(todo) s
            cross join lateral (select case
                when (s.e).op = 'delete' then case when (s.r).living then 'delete' else 'nothing' end
                when not (s.r).living then 'insert'
                when (s.e).op = 'replace' then 'replace' else 'update' end as verb) v
            where (s.r).status = 'todo') x
        group by name, verb, fields, island order by min(ord)
    loop
        if run.verb = 'nothing' then
            -- A deletion of what is not there leaves a tombstone and nothing else.
            continue;
        elsif run.tracked then
            perform dynos.write(dynos.tracked(run.name), run.verb, run.fields, run.entries);
        else
            perform dynos.write_documents(run.verb, run.entries);
        end if;
    end loop;
    return (select array_agg(row(s.e, row(case (s.r).status when 'todo' then 'applied' else (s.r).status end,
        (s.r).seen, (s.r).living, (s.r).seq, (s.r).code, (s.r).message, (s.r).record)::dynos.result)::dynos.step)
        from unnest(todo) s);
end $$;

create or replace function dynos.tracked(wanted text) returns dynos.track
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select t from dynos.track t where t.name = wanted
$$;

-- One statement: entries with the same fields, for one table.
create or replace function dynos.write(t dynos.track, verb text, fields text[], entries dynos.entry[]) returns void
language plpgsql as $$
declare
    relation constant text := dynos.qualified(t.relation);
    user_ constant text := dynos.subject();
    -- The entries' fields as a row d of the table. Values that JSON has no notation for are tagged.
    source constant text := format('unnest($1) e cross join lateral json_populate_record(null::%s, %s) d', relation,
        case when exists (select from unnest(entries) e where position('"$' in e.data::text) > 0)
        then 'dynos.untagged(e.data)' else 'e.data' end);
    own constant text := case when t.owner is null then 'true' else format('r.%I::text = %L', t.owner, user_) end;
    columns name[];
    reset name[];
    flaw boolean;
    count bigint;
begin
    execute format('select exists (select from unnest($1) e where (%s) is distinct from e.id)', t.id_of_id)
    into flaw using entries;
    if flaw then
        raise sqlstate '22000' using message = 'the id is not written as the table''s key is';
    end if;
    if verb = 'delete' then
        execute format('delete from %s r using unnest($1) e where %s and %s', relation, t.row_of_id, own) using entries;
        get diagnostics count = row_count;
        if count < cardinality(entries) then
            -- A row may have gone before, along with one that it refers to.
            count := dynos.deaths(t.name, array(select e.id from unnest(entries) e));
        end if;
        perform dynos.all_written(count, entries);
        return;
    end if;

    if t.key && fields::name[] then
        execute format('select exists (select from %s where %s)', source, (
            select string_agg(format('d.%I is distinct from %s', k, v), ' or ')
            from unnest(t.key, t.key_of_id) u (k, v) where k = any (fields::name[]))) into flaw using entries;
        if flaw then
            raise sqlstate '22000' using message = 'a column of the key differs from the id';
        end if;
    end if;
    if t.owner = any (fields::name[] || t.key) then
        -- Where it is a part of the key, the id says whose row it is.
        execute format('select exists (select from %s where (%s)::text <> %L)', source,
            coalesce(t.key_of_id[array_position(t.key, t.owner)], format('d.%I', t.owner)), user_)
        into flaw using entries;
        if flaw then
            raise insufficient_privilege using message = 'the row names another owner';
        end if;
    end if;

    columns := dynos.writable(t, verb, fields, entries, source);
    if verb = 'insert' then
        -- The owner is the caller, unless only a default may say so.
        execute format('insert into %s (%s) overriding system value select %s from %s order by e.ord', relation,
            (select string_agg(quote_ident(c), ', ')
             from unnest(t.key || columns || case when dynos.fills_owner(t) then array[t.owner] end) c),
            (select string_agg(v, ', ')
             from unnest(t.key_of_id || array(select format('d.%I', c) from unnest(columns) c)
                 || case when dynos.fills_owner(t) then array[quote_nullable(user_)] end) v), source)
        using entries;
    else
        if verb = 'replace' then
            select array_agg(c.name) into reset from dynos.columns(t.relation) c
            where c.name <> all (fields::name[]) and not c.in_key and not c.generated and c.may_update
                and c.name is distinct from t.owner;
        end if;
        if coalesce(cardinality(columns), 0) + coalesce(cardinality(reset), 0) = 0 then
            execute format('select from unnest($1) e join %s r on %s where %s', relation, t.row_of_id, own) using entries;
        else
            execute format('update %s r set %s from %s where %s and %s', relation,
                (select string_agg(s, ', ') from (
                    select format('%1$I = d.%1$I', c) from unnest(columns) c
                    union all select format('%I = default', c) from unnest(reset) c) x (s)),
                source, t.row_of_id, own) using entries;
        end if;
    end if;
    get diagnostics count = row_count;
    perform dynos.all_written(count, entries);
end $$;

-- A row that row-level security hides is not changed, without a word from Postgres.
create or replace function dynos.all_written(count bigint, entries dynos.entry[]) returns void language plpgsql as $$
begin
    if count <> cardinality(entries) then
        raise insufficient_privilege using message = 'there is no such row that the caller may write';
    end if;
end $$;

-- How many of these rows this transaction has deleted so far.
create or replace function dynos.deaths(called text, wanted text[]) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(distinct d.id) from dynos.note n cross join unnest(n.ids) d (id)
    where n.xid = pg_current_xact_id_if_assigned() and n.name = called and n.dead and d.id = any (wanted)
$$;

create or replace function dynos.fills_owner(t dynos.track) returns boolean language sql stable as $$
    select t.owner is not null and t.owner <> all (t.key)
        and has_column_privilege(t.relation, t.owner::text, 'insert')
$$;

-- The columns to be set. A device sends whole rows: columns that the caller may not write are left out as long as
-- nothing is to change in them.
create or replace function dynos.writable(
    t dynos.track, verb text, fields text[], entries dynos.entry[], source text
) returns name[] language plpgsql stable as $$
declare
    c record;
    changes boolean;
    columns name[] := '{}';
begin
    for c in
        select * from dynos.columns(t.relation) k
        where k.name = any (fields::name[]) and not k.in_key and not k.generated and k.name is distinct from t.owner
    loop
        if not (case verb when 'insert' then c.may_insert else c.may_update end) then
            if verb = 'insert' then
                execute format('select exists (select from %s where d.%I is not null)', source, c.name)
                into changes using entries;
            elsif c.may_select then
                execute format('select exists (select from %s join %s r on %s where d.%4$I::text is distinct from r.%4$I::text)',
                    source, dynos.qualified(t.relation), t.row_of_id, c.name) into changes using entries;
            else
                changes := true;
            end if;
            if changes then
                raise insufficient_privilege using message = format('column %s may not be written', c.name);
            end if;
        else
            columns := columns || c.name;
        end if;
    end loop;
    return columns;
end $$;

-- Writes documents of the caller's scope, and of shared tables.
create or replace function dynos.write_documents(verb text, entries dynos.entry[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    called constant text := entries[1].name;
    place constant text := dynos.scope_of(called);
    -- Named beside the join: else it may read all documents of the table.
    ids constant text[] := array(select e.id from unnest(entries) e);
begin
    if exists (select from dynos.track t join unnest(entries) e using (name))
        or exists (select from unnest(entries) e where e.name <> called) then
        raise insufficient_privilege using message = 'this is not a document table';
    end if;
    if verb = 'delete' then
        delete from dynos.document d where d.scope = place and d.name = called and d.id = any (ids);
    elsif verb in ('insert', 'replace') then
        insert into dynos.document (scope, name, id, data) select place, e.name, e.id, e.data from unnest(entries) e
        on conflict (scope, name, id) do update set data = excluded.data;
    else
        update dynos.document d set data = dynos.merged(d.data, e.data) from unnest(entries) e
        where d.scope = place and d.name = called and d.id = any (ids) and d.id = e.id;
        if exists (
            select from dynos.document d
            where d.scope = place and d.name = called and d.id = any (ids) and octet_length(d.data::text) > (select record_bytes from dynos.meta)
        ) then
            raise program_limit_exceeded using message = 'the record would be larger than the limit';
        end if;
    end if;
end $$;

-- A document with some fields set. Each value stays as it was written.
create or replace function dynos.merged(old json, new json) returns json language sql immutable as $$
    select coalesce(json_object_agg(key, value), '{}') from (
        select o.key, o.value from json_each(old) o where o.key not in (select json_object_keys(new))
        union all select n.key, n.value from json_each(new) n) f
$$;

-- A row r of a table as a record: what the caller may see of it, without the key, which the id carries.
create or replace function dynos.record_sql(t dynos.track) returns text language sql stable as $$
    select case when count(*) = 0 then '''{}''::json' else format('(select row_to_json(x) from (select %s) x)',
        string_agg(format('%s as %I', dynos.shown(format('r.%I', c.name), c.type), c.name), ', ')) end
    from dynos.columns(t.relation) c where c.may_select and not c.in_key
$$;

-- Whether the database itself may change more of a row than an entry names.
create or replace function dynos.has_a_will(relation regclass) returns boolean language sql stable as $$
    select exists (select from pg_trigger g where g.tgrelid = relation and not g.tgisinternal and g.tgenabled <> 'D'
            and g.tgfoid <> 'dynos.noted()'::regprocedure)
        or exists (select from dynos.columns(relation) c where c.generated)
$$;

-- Adds records to results: the stored form where it differs from what was sent, and, for what is refused, the record
-- as it is (as far as there is room in an answer).
create or replace function dynos.shown_as_stored(done dynos.step[]) returns dynos.step[] language plpgsql as $$
declare
    part record;
    shown dynos.step[] := '{}';
begin
    for part in
        select t.name, array_agg(s) as steps
        from unnest(done) s
        cross join lateral (select case when (s.r).status = 'rejected' then '' when (s.r).status = 'applied'
            and (s.e).op <> 'delete' and (s.e).tracked then (s.e).name end as name) t
        group by t.name
    loop
        if part.name = '' then
            part.steps := dynos.shown_as_they_are(part.steps);
        elsif part.name is not null then
            execute dynos.stored_sql(dynos.tracked(part.name)) into part.steps using part.steps;
        end if;
        shown := shown || part.steps;
    end loop;
    return shown;
end $$;

-- Steps $1 of one table, with the records that are stored otherwise than they were sent, as SQL.
create or replace function dynos.stored_sql(t dynos.track) returns text language sql stable as $$
    select format($sql$
        select array_agg(row(s.e, row((s.r).status, (s.r).seen, (s.r).living, (s.r).seq, (s.r).code, (s.r).message,
            f.record)::dynos.result)::dynos.step)
        from unnest($1) s cross join lateral (select (s.e).*) e
        left join lateral (select %s as record from %s r where %s) f on %s and (s.r).living
            -- What was sent is there,
            or (f.record::jsonb || (e.data::jsonb - %L::text[])) <> f.record::jsonb
            -- and nothing else, where the record is new.
            or (e.op = 'replace' or not (s.r).living) and jsonb_strip_nulls(f.record::jsonb - e.fields) <> '{}'
        $sql$, dynos.record_sql(t), dynos.qualified(t.relation), t.row_of_id,
        -- Where the database has a will of its own, an update may have changed more than it says.
        case when dynos.has_a_will(t.relation) then 'true' else 'false' end, t.key::text[])
$$;

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
