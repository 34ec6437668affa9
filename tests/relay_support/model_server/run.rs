//! What the model server does with a statement: transactions, settings, COPY.

use super::*;

impl Server {
    pub(super) fn row(&mut self, first: &str, value: &str) {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let text = format!("{first}|{value}|{}", settings.join(","));
        self.say(&frame(b'D', &[b"\0\x01", text.as_bytes()]));
    }

    pub(super) fn run(&mut self, text: &str, value: &str, _limit: u32, alone: bool) -> Result<(), Failure> {
        let all = words(text);
        self.ran.extend([value, all.get(1).copied().unwrap_or_default()].map(str::to_owned));
        match all[..] {
            ["select", n, ..] => {
                self.row(n, value);
                self.complete("SELECT 1");
            }
            ["rows", n, ..] => {
                (0..3).for_each(|_| self.row(n, value));
                self.complete("SELECT 3");
            }
            ["big", n, ..] => {
                (0..4).for_each(|_| self.row(n, &"x".repeat(3000)));
                self.complete("SELECT 4");
            }
            ["fail", n, ..] => return failure("22000", format!("failed as {n} said")),
            ["fatal", n, ..] => {
                self.dead = true;
                return failure("57P01", format!("terminated as {n} said"));
            }
            ["warn", n, ..] => {
                self.say(&notice("01000", n));
                self.complete("DO");
            }
            ["copy", "fail", n, ..] => {
                self.say(&frame(b'G', &[b"\0\0\0"]));
                self.flush();
                return failure("P0001", format!("trigger {n}"));
            }
            ["copy", "out", n, ..] => {
                self.say(&frame(b'H', &[b"\0\0\0"]));
                self.say(&frame(b'd', &[n.as_bytes(), value.as_bytes()]));
                self.say(&empty(b'c'));
                self.complete("COPY 1");
            }
            ["copy", ..] => self.copy_in(),
            ["vacuum"] => {
                self.outside_of_blocks("VACUUM", alone)?;
                self.complete("VACUUM");
            }
            ["deallocate", "all"] => {
                self.statements.clear();
                self.complete("DEALLOCATE ALL");
            }
            ["discard", "all"] => {
                self.outside_of_blocks("DISCARD ALL", alone)?;
                self.statements.retain(|name, _| name.is_empty());
                self.put_back(self.defaults.clone());
                self.complete("DISCARD ALL");
            }
            [set, name, to, literal] if set.eq_ignore_ascii_case("set") && to.eq_ignore_ascii_case("to") => {
                self.set(name.trim_matches('"'), literal.trim_start_matches('E').trim_matches('\''))?;
            }
            _ => return self.transaction_statement(&all),
        }
        Ok(())
    }

    pub(super) fn outside_of_blocks(&self, what: &str, alone: bool) -> Result<(), Failure> {
        if self.tx != Tx::Implicit || !alone {
            return failure("25001", format!("{what} cannot run inside a transaction block"));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        if value == "bad" || !self.settings.contains_key(name) {
            return failure("22023", format!("invalid value for parameter \"{name}\": \"{value}\""));
        }
        self.settings.insert(name.to_owned(), value.to_uppercase());
        if self.reports_at_once {
            self.report();
        }
        self.complete("SET");
        Ok(())
    }

    pub(super) fn transaction_statement(&mut self, all: &[&str]) -> Result<(), Failure> {
        match *all {
            ["begin"] => {
                if self.tx == Tx::Block {
                    self.say(&notice("25001", "there is already a transaction in progress"));
                }
                self.tx = Tx::Block;
                self.complete("BEGIN");
            }
            ["commit"] => {
                if self.lost == Some(Lost::Untold) {
                    self.end();
                    return failure("08006", "lost");
                }
                self.commits += usize::from(self.tx == Tx::Block);
                let failed = self.tx == Tx::Failed;
                if self.tx == Tx::Implicit {
                    self.say(&notice("25P01", "there is no transaction in progress"));
                }
                if failed {
                    self.put_back(self.before.clone());
                }
                self.end();
                self.complete(if failed { "ROLLBACK" } else { "COMMIT" });
            }
            ["rollback"] => {
                if self.tx == Tx::Implicit {
                    self.say(&notice("25P01", "there is no transaction in progress"));
                }
                self.put_back(self.before.clone());
                self.end();
                self.complete("ROLLBACK");
            }
            ["rollback", "and", "chain"] => self.chain("ROLLBACK AND CHAIN")?,
            ["commit", "and", "chain"] => self.chain("COMMIT AND CHAIN")?,
            ["savepoint", name] => {
                self.in_block("SAVEPOINT")?;
                self.savepoints.push((name.to_owned(), self.settings.clone()));
                self.complete("SAVEPOINT");
            }
            ["rollback", "to", name] => {
                self.in_block("ROLLBACK TO SAVEPOINT")?;
                let Some(at) = self.savepoints.iter().rposition(|(known, _)| known == name) else {
                    return failure("3B001", format!("savepoint \"{name}\" does not exist"));
                };
                self.savepoints.truncate(at + 1);
                self.put_back(self.savepoints[at].1.clone());
                self.tx = Tx::Block;
                self.complete("ROLLBACK");
            }
            _ => return failure("42601", format!("syntax error in {}", all.join(" "))),
        }
        Ok(())
    }

    fn chain(&mut self, what: &str) -> Result<(), Failure> {
        self.in_block(what)?;
        let undone = self.tx == Tx::Failed || what.starts_with("ROLLBACK");
        if undone {
            self.put_back(self.before.clone());
        }
        self.commits += usize::from(!undone);
        self.end();
        self.tx = Tx::Block;
        self.before = self.settings.clone();
        self.complete(if undone { "ROLLBACK" } else { "COMMIT" });
        Ok(())
    }

    pub(super) fn in_block(&self, what: &str) -> Result<(), Failure> {
        if self.lost.is_some() {
            return failure("25P02", format!("{what} of a lost block"));
        }
        if matches!(self.tx, Tx::Idle | Tx::Implicit) {
            return failure("25P01", format!("{what} can only be used in transaction blocks"));
        }
        Ok(())
    }

    // COPY

    pub(super) fn copy_in(&mut self) {
        self.say(&frame(b'G', &[b"\0\0\0"]));
        self.flush();
        self.copying = Some(Copying { rows: 0, extended: true, rest: VecDeque::new() });
    }

    pub(super) fn copy_message(&mut self, mut copying: Copying, tag: u8, body: &[u8]) {
        let failure: Failure = match tag {
            b'd' if body.starts_with(b"bad") => ("22P02", "invalid input".to_owned()),
            b'd' => {
                copying.rows += 1;
                self.copying = Some(copying);
                return;
            }
            b'S' | b'H' => {
                self.copying = Some(copying);
                return;
            }
            b'c' => {
                self.complete(&format!("COPY {}", copying.rows));
                if !copying.extended {
                    self.run_list(copying.rest, false);
                }
                return;
            }
            b'f' => ("57014", "COPY from stdin failed".to_owned()),
            _ => {
                self.out_of_sync = true;
                return self.die("08P01", "terminating connection because protocol synchronization was lost");
            }
        };
        if copying.extended {
            self.skipping = true;
            self.fail(failure);
        } else {
            self.end_simple(Err(failure));
        }
    }
}
