//! The services are what tests believe them to be.

use std::{net::TcpStream, process::Command};

use dynos_sync_testbed::{Database, Postgres, Supabase};

fn address(url: &str) -> String {
    let (_, place) = url.rsplit_once('@').expect("a user and a host");
    place.split('/').next().unwrap_or(place).to_owned()
}

#[test]
fn a_database_is_empty_ones_own_and_goes_with_the_test() {
    let (one, two) = (Database::create(), Database::create());
    one.sql("create table note (id int)");
    assert_eq!(two.sql("select to_regclass('note') is null"), "t");
    let name = one.url().rsplit_once('/').unwrap().1.to_owned();
    let exists = format!("select count(*) from pg_database where datname = '{name}'");
    assert_eq!(two.sql(&exists), "1");
    drop(one);
    assert_eq!(two.sql(&exists), "0");
}

#[test]
fn a_postgres_survives_a_restart_and_a_crash_at_its_url_and_leaves_nothing() {
    let mut postgres = Postgres::start();
    let address = address(postgres.url());
    assert!(TcpStream::connect(&address).is_ok());
    postgres.restart();
    assert!(TcpStream::connect(&address).is_ok());
    postgres.stop_immediate();
    assert!(TcpStream::connect(&address).is_err());
    postgres.start_again();
    assert!(TcpStream::connect(&address).is_ok());
    drop(postgres);
    assert!(TcpStream::connect(&address).is_err());
}

/// Whoever borrows is killed: nobody is left to say goodbye.
#[test]
fn a_postgres_ends_when_its_borrower_is_killed() {
    const ENV: &str = "DYNOS_TEST_BORROW";
    if std::env::var_os(ENV).is_some() {
        println!("\nborrowed {}", Postgres::start().url());
        std::process::abort();
    }
    let name = "a_postgres_ends_when_its_borrower_is_killed";
    let mut borrower = Command::new(std::env::current_exe().unwrap());
    // The lender holds the borrower's stderr until it has cleaned up: reading it to the end is waiting for that.
    let output = borrower.args([name, "--exact", "--nocapture"]).env(ENV, "1").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let url = printed.lines().find_map(|line| line.strip_prefix("borrowed ")).expect(&printed);
    assert!(TcpStream::connect(address(url)).is_err());
}

#[test]
fn supabase_serves_its_database_and_cuts_pages() {
    let supabase = Supabase::shared();
    assert_eq!(supabase.sql("select to_regclass('auth.users') is not null, auth.uid() is null"), "t|t");
    assert_eq!(supabase.sql("show max_connections").parse::<u32>().unwrap(), 400);
    assert_ne!(supabase.url, supabase.small_pages_url);
    for url in [&supabase.url, &supabase.small_pages_url] {
        assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok(), "{url}");
    }
}
