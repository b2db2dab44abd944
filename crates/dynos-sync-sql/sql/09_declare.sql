-- What tables look like, for devices that make the same ones.

-- Joins declarations with what is known of the tables, and returns these tables as they are now. A table that the
-- database syncs is as the database says; any other one is kept as documents, whatever its shape on the devices.
create or replace function public.dynos_declare(tables json) returns json
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
    limits dynos.meta;
    wanted json;
    called text;
    mine text;
    kept dynos.tab;
    place bigint;
    is_known boolean;
    declared json[] := '{}';
begin
    perform dynos.mine();
    select * into limits from dynos.meta;
    for wanted in select t from json_array_elements(tables) t loop
        called := wanted ->> 'name';
        if called is null or called = '' or octet_length(called) > 128 or called ~* '^(dynos|sqlite)_' then
            raise sqlstate 'PT422' using message = 'a table''s name has 1 to 128 bytes and does not start with dynos_ or sqlite_';
        elsif octet_length(wanted::text) > 262144 then
            raise sqlstate 'PT422' using message = format('table %s: %s bytes, the limit is 262144', called, octet_length(wanted::text));
        end if;
        perform dynos.sound(called, wanted -> 'shape');
        mine := dynos.scope_of(called);
        insert into dynos.scope (name) select mine
        where not exists (select from dynos.scope where name = mine) on conflict do nothing;
        select scope into place from dynos.scope where name = mine;
        insert into dynos.tab (scope, name) select place, called
        where not exists (select from dynos.tab where scope = place and name = called) on conflict do nothing;
        select * into kept from dynos.tab b where b.scope = place and b.name = called for update;
        select tracked into is_known from dynos.named(called);
        if is_known then
            perform dynos.fitting_key(called, wanted -> 'shape');
        elsif exists (select from dynos.track t where t.name = called) then
            raise sqlstate 'PT422' using
                message = format('table %s was dropped from the database', called),
                hint = format('its operator makes it again and calls dynos_track, or gives it up: select dynos_untrack(%L)', called);
        elsif exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = 'public' and c.relname = called and c.relkind in ('r', 'p', 'v', 'm', 'f')) then
            raise sqlstate 'PT422' using
                message = format('table %s exists in the database and is not synced', called),
                hint = format('its operator runs: select dynos_track(%L, ''OWNER_COLUMN'')', quote_ident(called));
        elsif kept.spec is null and limits.tables <=
                (select count(*) from dynos.tab b where b.scope = place and b.spec is not null) then
            raise sqlstate 'PT422' using message = format('there are %s tables already, the limit is %1$s', limits.tables);
        end if;
        if kept.spec is null and not is_known then
            -- Rows of a table that had this name and was untracked: devices are not to take them for deleted documents.
            delete from dynos.change c where c.tab = kept.tab and not c.dead and not exists (
                select from dynos.document d where d.scope = mine and d.name = called and d.id = c.id);
        end if;
        update dynos.tab b set spec = dynos.joined(called, b.spec, wanted)
        where b.tab = kept.tab and (b.spec is null or b.spec::jsonb <> dynos.joined(called, b.spec, wanted)::jsonb);
        declared := declared || dynos.declared(kept.tab);
    end loop;
    return json_build_object('tables', array_to_json(declared));
end $$;

-- The tables that the caller sees, by name.
create or replace function public.dynos_tables() returns json
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform dynos.mine();
    return json_build_object('tables', coalesce((
        select json_agg(coalesce(dynos.declared(b.tab), dynos.catalogued(n.name)) order by n.name)
        from (select name from dynos.track
              union select b.name from dynos.tab b join dynos.scope s using (scope)
              where s.name in (dynos.mine(), 's') and b.spec is not null) n
        left join dynos.scope s on s.name = dynos.scope_of(n.name)
        left join dynos.tab b on b.scope = s.scope and b.name = n.name
        where b.spec is not null or exists (select from dynos.track t join pg_class c on c.oid = t.relation
                                            where t.name = n.name)), '[]'));
end $$;

-- Refuses a shape that cannot be one.
create or replace function dynos.sound(called text, shape json) returns void language plpgsql immutable as $$
declare
    columns text[] := array(select c ->> 'name' from json_array_elements(case shape ->> 'kind' when 'columns'
                            then coalesce(shape -> 'columns', '[]') else '[]' end) c);
    key text[] := array(select json_array_elements_text(coalesce(shape -> 'key', '[]')));
    problem text;
begin
    problem := case
        when shape ->> 'kind' is null or shape ->> 'kind' not in ('document', 'columns') then 'its kind is unknown'
        when shape ->> 'kind' = 'document' then null
        when cardinality(columns) > 1000 then format('%s columns, the limit is 1000', cardinality(columns))
        when exists (select from unnest(columns) c where c is null or octet_length(c) not between 1 and 128)
            then 'a column''s name has 1 to 128 bytes'
        when (select count(distinct lower(c)) from unnest(columns) c) < cardinality(columns) then 'a column appears twice'
        when cardinality(key) = 0 then 'it has no primary key'
        when not key <@ columns then 'its key names a column that it lacks'
    end;
    if problem is not null then
        raise sqlstate 'PT422' using message = format('table %s: %s', called, problem), hint = 'correct the declaration';
    end if;
exception when invalid_parameter_value or invalid_text_representation then
    raise sqlstate 'PT422' using message = format('table %s: its declaration is malformed', called);
end $$;

-- A device's table and the database's have to agree on what names a record.
create or replace function dynos.fitting_key(called text, shape json) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    key text[];
begin
    select t.key::text[] into key from dynos.track t where t.name = called;
    if shape ->> 'kind' = 'columns'
        and array(select json_array_elements_text(shape -> 'key')) <> key then
        raise sqlstate 'PT422' using
            message = format('table %s: its primary key differs from the database''s, which is %s', called, array_to_string(key, ', ')),
            hint = 'make the two alike';
    elsif shape ->> 'kind' = 'document' and (cardinality(key) > 1 or key[1] <> 'id') then
        raise sqlstate 'PT422' using message = format('table %s: the device keeps documents, the database columns', called),
            hint = 'make the two alike';
    end if;
end $$;

-- One declaration out of two: columns that only the later one has are appended, and nothing is ever taken away, so
-- that an older device cannot remove what a newer one added.
create or replace function dynos.joined(called text, known json, later json) returns json language plpgsql immutable as $$
begin
    if known is null then
        return later;
    elsif known -> 'shape' ->> 'kind' <> later -> 'shape' ->> 'kind' then
        raise sqlstate 'PT422' using message = format('table %s: one device keeps documents, another columns', called),
            hint = 'rename one of the two tables, or make them alike';
    elsif known -> 'shape' ->> 'kind' = 'document' then
        return known;
    elsif (known -> 'shape' -> 'key')::jsonb <> (later -> 'shape' -> 'key')::jsonb then
        raise sqlstate 'PT422' using
            message = format('table %s: its primary key differs from the one that other devices declared', called),
            hint = 'rename one of the two tables, or make them alike';
    end if;
    return (
        select json_build_object('name', known -> 'name', 'shape', json_object_agg(s.key, case s.key
            when 'columns' then (
                select json_agg(c order by o) from (
                    select c, o from json_array_elements(s.value) with ordinality k (c, o)
                    union all
                    select c, o + 100000 from json_array_elements(later -> 'shape' -> 'columns') with ordinality l (c, o)
                    where c ->> 'name' not in (select known_ ->> 'name' from json_array_elements(s.value) e (known_))) all_)
            else s.value end))
        from json_each(known -> 'shape') s
    );
end $$;

-- A table as it is declared: where the database syncs one of its own, with the columns that it has.
create or replace function dynos.declared(wanted bigint) returns json
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select case
        when b.spec is null or t.name is null then b.spec
        when b.spec -> 'shape' ->> 'kind' = 'document' then dynos.catalogued(b.name)
        else json_build_object('name', b.name, 'shape', (
            select json_object_agg(s.key, case s.key when 'columns' then (
                -- The device's own types for columns that it knows; the database's columns, and no others.
                select json_agg(coalesce(d.c, k.c) order by k.o)
                from json_array_elements(dynos.catalogued(b.name) -> 'shape' -> 'columns') with ordinality k (c, o)
                left join json_array_elements(s.value) d (c) on d.c ->> 'name' = k.c ->> 'name')
                else s.value end)
            from json_each(b.spec -> 'shape') s)) end
    from dynos.tab b left join dynos.track t on t.name = b.name where b.tab = wanted
$$;

-- A table of the database as a device would declare it.
create or replace function dynos.catalogued(called text) returns json
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select json_build_object('name', called, 'shape', json_strip_nulls(json_build_object('kind', 'columns',
        'columns', (
            select json_agg(json_build_object('name', c.name, 'type', dynos.sqlite_type(c.type, c.written),
                -- The owner is filled in where a device leaves it out.
                'not_null', case when c.not_null and not c.generated and c.name is distinct from t.owner then true end))
            from dynos.columns(t.relation) c),
        'key', t.key::text[],
        'indexes', (
            select json_agg(json_build_object('unique', true, 'columns', dynos.names(i.indrelid, i.indkey::int2[])))
            from pg_index i
            where i.indrelid = t.relation and i.indisunique and not i.indisprimary
                and i.indpred is null and i.indexprs is null and i.indnkeyatts = i.indnatts),
        'foreign_keys', (
            select json_agg(json_build_object('columns', dynos.names(f.conrelid, f.conkey), 'parent', p.name,
                'parent_columns', dynos.names(f.confrelid, f.confkey),
                'on_delete', dynos.action(f.confdeltype), 'on_update', dynos.action(f.confupdtype)))
            from pg_constraint f join dynos.track p on p.relation = f.confrelid
            where f.conrelid = t.relation and f.contype = 'f'))))
    from dynos.track t where t.name = called
$$;

create or replace function dynos.names(relation oid, numbers int2[]) returns text[] language sql stable as $$
    select array_agg(a.attname::text order by n.o)
    from unnest(numbers) with ordinality n (n, o)
    join pg_attribute a on a.attrelid = relation and a.attnum = n.n
$$;

create or replace function dynos.action(code "char") returns text language sql immutable as $$
    select case code when 'a' then 'NO ACTION' when 'r' then 'RESTRICT' when 'c' then 'CASCADE'
        when 'n' then 'SET NULL' when 'd' then 'SET DEFAULT' end
$$;

-- The type under which SQLite keeps a column's values as they are.
create or replace function dynos.sqlite_type(type oid, written text) returns text language sql stable as $$
    select case
        when dynos.is_number(type) then 'INTEGER'
        when type = 'bool'::regtype then 'BOOLEAN'
        when type in ('float4'::regtype, 'float8'::regtype) then 'REAL'
        when type = 'numeric'::regtype then 'NUMERIC'
        when type = 'bytea'::regtype then 'BLOB'
        when type in ('json'::regtype, 'jsonb'::regtype) or written like '%[]'
            or (select typtype from pg_type where oid = type) = 'c' then 'JSON'
        else 'TEXT'
    end
$$;
