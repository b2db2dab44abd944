-- Writing entries into tables: with the caller's rights, so that privileges and row-level security decide.

-- Writes what was found in order.
drop function if exists dynos.written(dynos.step[]);
create or replace function dynos.write_all(done dynos.step[]) returns void language plpgsql as $$
declare
    run record;
    first dynos.entry;
begin
    for run in select * from dynos.runs(done) loop
        first := run.entries[1];
        if run.verb = 'nothing' then
            -- A deletion of what is not there leaves a tombstone and nothing else.
            continue;
        elsif first.tracked then
            perform dynos.write(dynos.tracked(first.name), run.verb, first.fields, run.entries);
        else
            perform dynos.write_documents(run.verb, run.entries);
        end if;
    end loop;
end $$;

-- Entries that are alike and follow one another are one statement.
create or replace function dynos.runs(done dynos.step[]) returns table (verb text, entries dynos.entry[])
language plpgsql stable as $$
declare
    first constant dynos.step := done[1];
begin
    -- Most pushes are one run, and need not be taken apart.
    if (first.r).status = 'applied' and not exists (
        select from unnest(done) s where row((s.r).status, (s.e).name, (s.e).op, (s.r).living, (s.e).fields)
            is distinct from row((first.r).status, (first.e).name, (first.e).op, (first.r).living, (first.e).fields)
    ) then
        return query select dynos.verb((first.e).op, (first.r).living),
            array(select s.e from unnest(done) s order by (s.e).ord);
        return;
    end if;
    return query select y.verb, array_agg(y.e order by y.ord) from (
        select x.e, x.ord, x.verb, count(*) filter (where x.other) over (order by x.ord) as run from (
            select s.e, (s.e).ord, v.verb, row((s.e).name, v.verb, (s.e).fields)
                is distinct from lag(row((s.e).name, v.verb, (s.e).fields)) over (order by (s.e).ord) as other
            from unnest(done) s cross join lateral (select dynos.verb((s.e).op, (s.r).living) offset 0) v (verb)
            where (s.r).status = 'applied') x) y
        group by run, y.verb order by run;
end $$;

create or replace function dynos.verb(op text, living boolean) returns text language sql immutable as $$
    select case when op = 'delete' then case when living then 'delete' else 'nothing' end
        when not living then 'insert' when op = 'replace' then 'replace' else 'update' end
$$;

create or replace function dynos.tracked(wanted text) returns dynos.track
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select t from dynos.track t where t.name = wanted
    );
end $$;

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
    -- Whether a row names another owner, as SQL.
    others text := 'false';
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
        others := format('(%s)::text <> %L',
            coalesce(t.key_of_id[array_position(t.key, t.owner)], format('d.%I', t.owner)), user_);
        if verb <> 'insert' then
            execute format('select exists (select from %s where %s)', source, others) into flaw using entries;
            if flaw then
                perform dynos.not_own();
            end if;
        end if;
    end if;

    columns := dynos.writable(t, verb, fields, entries, source);
    if verb = 'insert' then
        -- The owner is the caller, unless only a default may say so.
        -- Rows in another's name are looked for in the same statement: to read the entries once more takes long.
        execute format('insert into %s (%s) overriding system value select %s from %s
            where case when %s then dynos.not_own() else true end order by e.ord', relation,
            (select string_agg(quote_ident(c), ', ')
             from unnest(t.key || columns || case when dynos.fills_owner(t) then array[t.owner] end) c),
            (select string_agg(v, ', ')
             from unnest(t.key_of_id || array(select format('d.%I', c) from unnest(columns) c)
                 || case when dynos.fills_owner(t) then array[quote_nullable(user_)] end) v), source, others)
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

create or replace function dynos.not_own() returns boolean language plpgsql as $$
begin
    raise insufficient_privilege using message = 'the row names another owner';
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

create or replace function dynos.fills_owner(t dynos.track) returns boolean language plpgsql stable as $$
begin
    return (
        select t.owner is not null and t.owner <> all (t.key)
            and has_column_privilege(t.relation, t.owner::text, 'insert')
    );
end $$;

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
    blanks text;
begin
    if exists (select from dynos.track t join unnest(entries) e using (name))
        or exists (select from unnest(entries) e where e.name <> called) then
        raise insufficient_privilege using message = 'this is not a document table';
    end if;
    if verb = 'delete' then
        delete from dynos.document d where d.scope = place and d.name = called and d.id = any (ids);
    elsif verb in ('insert', 'replace') then
        blanks := dynos.blanks(place, called, entries[1].fields);
        insert into dynos.document (scope, name, id, data)
        select place, e.name, e.id, case when blanks is null then e.data else dynos.merged(blanks::json, e.data) end
        from unnest(entries) e
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

-- Nulls for the columns that a table was declared with and whole records do not name, made by devices that do not know them: else those who do
-- would keep what an earlier record had there. Columns with a default, and those that take no null, are left out.
create or replace function dynos.blanks(place text, called text, fields text[]) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select '{' || string_agg(to_json(c ->> 'name') || ':null', ',') || '}'
    from dynos.scope s join dynos.tab b using (scope)
    cross join lateral json_array_elements(b.spec #> '{shape,columns}') e (c)
    where s.name = place and b.name = called and not c ->> 'name' = any (fields)
        and c ->> 'default' is null and not coalesce((c ->> 'not_null')::boolean, false)
        and not exists (select from json_array_elements_text(b.spec #> '{shape,key}') k (name) where k.name = c ->> 'name')
$$;

-- A document with some fields set. Each value stays as it was written.
create or replace function dynos.merged(old json, new json) returns json language sql immutable as $$
    select coalesce(json_object_agg(key, value), '{}') from (
        select o.key, o.value from json_each(old) o where o.key not in (select json_object_keys(new))
        union all select n.key, n.value from json_each(new) n) f
$$;
