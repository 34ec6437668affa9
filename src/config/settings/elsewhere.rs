//! What PgBouncer has and this pooler has not: whoever brings its configuration along is told so by name, and what to
//! do instead, rather than to write a setting that merely sounds alike.

/// What there is instead of a setting of PgBouncer's that does not exist here.
pub fn instead_of(key: &str) -> Option<&'static str> {
    let found = OTHERS.iter().find(|(keys, _)| keys.contains(&key));
    found.map(|(_, instead)| *instead)
}

/// Settings, and what there is instead of them.
const OTHERS: &[(&[&str], &str)] = &[
    (&["auth_user", "auth_query", "auth_dbname"], "users and their secrets stand in auth_file"),
    (&["auth_hba_file"], "auth_type holds for all clients; who may reach the port is for a firewall to say"),
    (&["auth_ident_file"], "nobody logs in by certificate or as a user of the system, so there are no names to map"),
    (&["auth_ldap_options"], "there are no logins by LDAP, see auth_type"),
    (&["peer_id", "so_reuseport"], "one process uses all cores, see workers"),
    (&["disable_pqexec"], "simple queries can't be refused"),
    (&["conffile"], "a reload reads the file that the process was started with"),
    (&["job_name", "service_name"], "there is no Windows service"),
    (
        &["syslog", "syslog_ident", "syslog_facility"],
        "the log goes to standard error, from where systemd and containers take it, or to logfile",
    ),
    (&["pool_idle_timeout"], "an unused pool keeps nothing once server_idle_timeout has closed its servers"),
    (&["dns_zone_check_period"], "a name is looked up anew when dns_max_ttl is over"),
    (&["resolv_conf"], "names are looked up as the system is configured to"),
    (&["login_notify_message"], "clients get no notice at their login"),
    (&["suspend_timeout"], "there is no SUSPEND; PAUSE waits for servers, not for buffers"),
    (&["client_tls_ciphers", "server_tls_ciphers"], "ciphers can be chosen for TLS 1.3, see *_tls13_ciphers"),
    (&["client_tls_ecdhcurve", "client_tls_dheparams"], "the TLS library chooses safe key exchanges by itself"),
    (&["pkt_buf"], "buffers are as large as they must be, and none is kept for idle clients"),
    (&["sbuf_loopcnt"], "busy clients take turns without it"),
    (&["tcp_defer_accept"], "a client that says nothing is bounded by client_login_timeout"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::homes_of;

    /// The settings of PgBouncer 1.25, by the sections of its manual.
    const PGBOUNCER: &str = "logfile pidfile listen_addr listen_port unix_socket_dir unix_socket_mode \
        unix_socket_group user pool_mode max_client_conn default_pool_size min_pool_size reserve_pool_size \
        reserve_pool_timeout max_db_connections max_db_client_connections max_user_connections \
        max_user_client_connections server_round_robin track_extra_parameters ignore_startup_parameters peer_id \
        disable_pqexec application_name_add_host conffile job_name service_name stats_period max_prepared_statements \
        scram_iterations auth_type auth_hba_file auth_ident_file auth_file auth_user auth_query auth_dbname \
        auth_ldap_options syslog syslog_ident syslog_facility log_connections log_disconnections log_pooler_errors \
        log_stats verbose admin_users stats_users server_reset_query server_reset_query_always server_check_delay \
        server_check_query server_fast_close server_lifetime server_idle_timeout server_connect_timeout \
        server_login_retry client_login_timeout autodb_idle_timeout pool_idle_timeout dns_max_ttl dns_nxdomain_ttl \
        dns_zone_check_period resolv_conf query_wait_notify login_notify_message query_timeout query_wait_timeout \
        cancel_wait_timeout client_idle_timeout idle_transaction_timeout transaction_timeout suspend_timeout \
        client_tls_sslmode client_tls_key_file client_tls_cert_file client_tls_ca_file client_tls_protocols \
        client_tls_ciphers client_tls13_ciphers client_tls_ecdhcurve client_tls_dheparams server_tls_sslmode \
        server_tls_ca_file server_tls_key_file server_tls_cert_file server_tls_protocols server_tls_ciphers \
        server_tls13_ciphers pkt_buf max_packet_size listen_backlog sbuf_loopcnt so_reuseport tcp_defer_accept \
        tcp_socket_buffer tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_user_timeout dbname host port \
        password pool_size reserve_pool connect_query load_balance_hosts client_encoding datestyle timezone \
        application_name";

    #[test]
    fn each_of_pgbouncers_settings_is_here_or_explained() {
        for key in PGBOUNCER.split_whitespace() {
            assert_ne!(homes_of(key).is_empty(), instead_of(key).is_none(), "{key}");
        }
        for (keys, _) in OTHERS {
            keys.iter().for_each(|key| assert!(PGBOUNCER.split_whitespace().any(|known| known == *key), "{key}"));
        }
    }
}
