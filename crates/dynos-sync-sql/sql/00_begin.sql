-- dynos-sync: offline-first sync, inside Postgres 14 or later. Installing it again brings an older version up to date
-- and changes nothing else. Run it in one transaction, as a role that may create schemas and functions.

do $$
declare
    installed integer;
begin
    -- One installation at a time.
    perform pg_advisory_xact_lock(hashtext('dynos-sync'));
    if current_setting('server_version_num')::integer < 140000 then
        raise exception 'dynos-sync needs Postgres 14 or later, this is %', current_setting('server_version');
    elsif current_setting('server_encoding') <> 'UTF8' then
        raise exception 'dynos-sync needs a database in UTF8, this one is in %', current_setting('server_encoding')
            using hint = 'create database … encoding ''UTF8'' template template0';
    end if;
    if to_regclass('dynos.meta') is not null then
        select version into installed from dynos.meta;
        if installed > 3 then
            raise exception 'this database has a newer dynos-sync (version %)', installed
                using hint = 'use the program that installed it, or a newer one';
        end if;
    end if;
end $$;
set local check_function_bodies = off;
set local client_min_messages = warning;
