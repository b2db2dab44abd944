-- Rows as JSON, and back. What JSON has no notation for is an object with one tagged field, as on the device:
-- {"$blob": base64}, {"$real": "Infinity"}.

-- A number that every reader takes for the same one: as it is where a double holds it, else as a text.
create or replace function dynos.json_of(n numeric) returns json language sql immutable as $$
    select case
        when n is null then null
        when n in ('NaN', 'Infinity', '-Infinity') then to_json(n::text)
        when scale(n) = 0 and abs(n) < 9223372036854775808 then to_json(n)
        when abs(n) < 1e300 and (n = 0 or abs(n) > 1e-300) and n::float8::numeric = n then to_json(n)
        else to_json(n::text)
    end
$$;

create or replace function dynos.json_of(f float8) returns json language sql immutable as $$
    select case
        when f is null then null
        when f = 'NaN' then to_json('NaN'::text)
        when f in ('Infinity', '-Infinity') then json_build_object('$real', f::text)
        -- A whole number stays a real one.
        when f::text ~ '^-?[0-9]+$' then (f::text || '.0')::json
        else to_json(f)
    end
$$;

create or replace function dynos.json_of(f float4) returns json language sql immutable as $$
    select case when f::text ~ '^-?[0-9.]+$' and f::text ~ '\.' then f::text::json else dynos.json_of(f::text::float8) end
$$;

create or replace function dynos.json_of(b bytea) returns json language sql immutable as $$
    select case when b is not null then json_build_object('$blob', translate(encode(b, 'base64'), E'\n', '')) end
$$;

-- RFC 3339 in UTC, without zeros at the end: as devices write it, whatever the session's settings.
create or replace function dynos.json_of(t timestamptz) returns json language sql immutable as $$
    select case
        when isfinite(t) then to_json((to_json(t at time zone 'UTC') #>> '{}') || 'Z')
        when t is not null then to_json(t::text)
    end
$$;

-- As SQLite's own functions write it.
create or replace function dynos.json_of(t timestamp) returns json language sql immutable as $$
    select case when t is not null then to_json(replace(to_json(t) #>> '{}', 'T', ' ')) end
$$;

-- A column as it is put into a record.
create or replace function dynos.shown(expression text, type oid) returns text language sql immutable as $$
    select case
        when type in ('numeric'::regtype, 'float8'::regtype, 'float4'::regtype, 'bytea'::regtype,
                      'timestamptz'::regtype, 'timestamp'::regtype)
            then format('dynos.json_of(%s)', expression)
        else expression
    end
$$;

-- Tagged values of an entry as Postgres' own input functions read them.
create or replace function dynos.untagged(data json) returns json language sql immutable as $$
    select coalesce(json_object_agg(key, case
        when json_typeof(value) <> 'object' then value
        when value ->> '$blob' is not null and dynos.tags(value) = 1
            then to_json('\x' || encode(decode(value ->> '$blob', 'base64'), 'hex'))
        when value ->> '$real' is not null and dynos.tags(value) = 1 then to_json(value ->> '$real')
        else value end), '{}')
    from json_each(data)
$$;

create or replace function dynos.tags(value json) returns bigint language sql immutable as $$
    select count(*) from json_object_keys(value)
$$;

-- How deep a value is nested: 0 for a scalar.
create or replace function dynos.depth(value json) returns integer language plpgsql immutable as $$
begin
    return case json_typeof(value)
        when 'object' then 1 + coalesce((select max(dynos.depth(e.value)) from json_each(value) e), 0)
        when 'array' then 1 + coalesce((select max(dynos.depth(e.value)) from json_array_elements(value) e), 0)
        else 0
    end;
end $$;

-- A text key that cannot stand for itself (it is empty, or begins like this) is written as JSON after a \x01.
-- (Stable, as what it is made of is: an immutable one would be called for every row, and not be a part of the statement.)
create or replace function dynos.id_of_text(key text) returns text language sql stable as $$
    select case when key = '' or left(key, 1) = E'\x01' then E'\x01' || to_json(key)::text else key end
$$;

create or replace function dynos.text_of_id(id text) returns text language sql immutable as $$
    select case when left(id, 1) = E'\x01' then substr(id, 2)::json #>> '{}' else id end
$$;

-- The id of a key, as SQL: a text is itself, a number is itself, several columns are a JSON array.
-- "columns" are expressions, "numbers" says which are numbers.
create or replace function dynos.id_sql(columns text[], numbers boolean[]) returns text language sql immutable as $$
    select case
        when cardinality(columns) = 1 and numbers[1] then format('(%s)::text', columns[1])
        when cardinality(columns) = 1 then format('dynos.id_of_text((%s)::text)', columns[1])
        else (select '''['' || ' || string_agg(
                  case when n then format('(%s)::text', c) else format('to_json((%s)::text)::text', c) end,
                  ' || '','' || ' order by o) || ' || '']'''
              from unnest(columns, numbers) with ordinality u(c, n, o))
    end
$$;
