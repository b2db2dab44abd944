-- Takes dynos-sync out of a database. The application's tables stay, and all of their rows; what is kept as documents
-- and the history that devices follow are gone.
do $$
declare
    it record;
begin
    for it in select t.relation from dynos.track t join pg_class c on c.oid = t.relation loop
        perform public.dynos_untrack(it.relation);
    end loop;
    for it in
        select p.oid::regprocedure as signature from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proname like 'dynos\_%'
    loop
        execute format('drop function %s', it.signature);
    end loop;
end $$;
drop schema dynos cascade;
