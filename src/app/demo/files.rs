//! `pooler.toml` and `userlist.txt` for a pooler in front of a throw-away cluster.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::error::ClusterError;

/// What the pooler of the demo is told.
#[derive(Debug, Clone, Copy)]
pub struct PoolerFiles<'a> {
    /// The cluster whose primary serves the database `app`.
    pub cluster: &'a Cluster,
    /// The pooler's port.
    pub listen_port: u16,
    /// The port of /metrics and /health.
    pub metrics_port: u16,
    /// Names and passwords in clear, the console's administrators among them.
    pub users: &'a [(&'a str, &'a str)],
    /// Who may log in to the console.
    pub admin_user: &'a str,
}

impl PoolerFiles<'_> {
    /// Writes both into the cluster's directory, readable by their owner only; returns the path of `pooler.toml`.
    pub fn write(&self) -> Result<PathBuf, ClusterError> {
        let dir = self.cluster.dir();
        let config = dir.join("pooler.toml");
        write_private(&dir.join("userlist.txt"), &self.userlist())?;
        write_private(&config, &self.config(dir))?;
        Ok(config)
    }

    fn userlist(&self) -> String {
        let quote = |text: &str| text.replace('"', "\"\"");
        self.users.iter().map(|(name, secret)| format!("\"{}\" \"{}\"\n", quote(name), quote(secret))).collect()
    }

    fn config(&self, dir: &Path) -> String {
        let Self { cluster, listen_port, metrics_port, admin_user, .. } = self;
        let primary_port = cluster.primary().port();
        let dir = dir.display();
        format!(
            "[pooler]\n\
             listen_addr = \"127.0.0.1\"\n\
             listen_port = {listen_port}\n\
             unix_socket_dir = \"{dir}\"\n\
             pool_mode = \"transaction\"\n\
             auth_type = \"scram-sha-256\"\n\
             auth_file = \"{dir}/userlist.txt\"\n\
             admin_users = [\"{admin_user}\"]\n\
             \n\
             [metrics]\n\
             listen = \"127.0.0.1:{metrics_port}\"\n\
             \n\
             [databases.app]\n\
             host = \"127.0.0.1\"\n\
             port = {primary_port}\n\
             dbname = \"app\"\n"
        )
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), ClusterError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(ClusterError::file(path))?;
    file.write_all(text.as_bytes()).map_err(ClusterError::file(path))
}
