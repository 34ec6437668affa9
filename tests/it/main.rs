//! Everything that is checked from outside: against real PostgreSQL, by real clients, and the source's own rules.
//! One binary, so that it links once and shares one PostgreSQL server.

mod cancels;
mod crowd;
mod demo;
mod departures;
mod drivers;
mod handed_on;
mod hostile;
mod listeners;
mod logins;
mod lost_servers;
mod operation;
mod process;
mod server_connect;
mod setup;
mod startup_packets;
mod support;
mod throwaway_cluster;
mod tidy;
mod tls;
mod tls_servers;
mod traffic;
mod violations;
