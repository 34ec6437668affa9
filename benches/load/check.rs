//! Whether the bench reads and reckons rightly, for `cargo test --benches`: a bench with a `main` of its own has no
//! test functions.

use std::time::Duration;

use crate::accounting::{coarse_cpu, status_field};
use crate::pgbench::{logged, progress_rate, summary_number};
use crate::stats::{median, minimum, percentile, ratios};
use crate::syscalls::{Calls, parse_perf, parse_strace};

/// Panics at the first mistake.
pub(crate) fn run() {
    pgbench_output();
    kernel_books();
    system_call_counts();
    arithmetic();
    println!("The load bench reads and reckons rightly. To measure: cargo bench --bench load");
}

fn pgbench_output() {
    for (line, rate) in [
        ("progress: 2.0 s, 7021.9 tps, lat 0.141 ms stddev 0.020, 0 failed", Some(7021.9)),
        ("progress: 1.0 s, 0.0 tps, lat 0.000 ms stddev 0.000, 0 failed", Some(0.0)),
        ("pgbench (15.13)", None),
        ("progress: ", None),
    ] {
        assert_eq!(progress_rate(line), rate, "{line}");
    }
    let summary = "number of transactions actually processed: 4711/5000\naverage connection time = 3.125 ms\n";
    assert_eq!(summary_number(summary, "number of transactions actually processed: "), Some(4711.0));
    assert_eq!(summary_number(summary, "average connection time = "), Some(3.125));
    assert_eq!(summary_number(summary, "initial connection time = "), None);
    assert_eq!(logged("3 17 141 0 1700000000 250"), Some((1_700_000_000_000_250, 141)));
    assert_eq!(logged("3 17 141 0 17000"), None, "the last line may be cut");
}

fn kernel_books() {
    let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 2 3";
    assert_eq!(coarse_cpu(stat), Some(Duration::from_secs(2)));
    assert_eq!(coarse_cpu("42 (short) S 1"), None);
    assert_eq!(status_field("VmSize:\t 1 kB\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
    assert_eq!(status_field("VmSize:\t 1 kB\n", "VmRSS:"), None);
}

fn system_call_counts() {
    let perf = "# started on Mon\n\n100,,raw_syscalls:sys_enter,9,100.00,,\n20,,syscalls:sys_enter_sendto,9,100.00,,\n\
                40,,syscalls:sys_enter_recvfrom,9,100.00,,\n0,,syscalls:sys_enter_readv,9,100.00,,\n";
    let by_name = vec![("recvfrom".to_owned(), 40), ("sendto".to_owned(), 20)];
    assert_eq!(parse_perf(perf), Some(Calls { total: 100, by_name: by_name.clone() }));
    assert_eq!(parse_perf("<not counted>,,raw_syscalls:sys_enter,0,100.00,,"), None);
    let strace = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ---\n\
                   60.00    0.000300           7        20           sendto\n 40.00    0.000200           5        40         2 recvfrom\n\
                  ------ ----------- ----------- --------- --------- ---\n100.00    0.000500           8        60         2 total\n";
    assert_eq!(parse_strace(strace), Some(Calls { total: 60, by_name }));
    assert_eq!(parse_strace(""), None);
}

fn arithmetic() {
    for (values, middle) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5), (&[7.0], 7.0), (&[], 0.0)] {
        assert!((median(values) - middle).abs() < 1e-9, "{values:?}");
    }
    assert!((minimum(&[3.0, 1.0, 2.0]) - 1.0).abs() < 1e-9);
    let hundred: Vec<u64> = (1..=100).collect();
    for (percent, value) in [(1, 1), (50, 50), (99, 99), (100, 100)] {
        assert_eq!(percentile(&hundred, percent), Some(value), "{percent}");
    }
    assert_eq!(percentile(&[5, 6], 50), Some(5));
    assert_eq!(percentile(&[], 50), None);
    let with_gaps = ratios(&[Some(1.0), None, Some(3.0)], &[Some(2.0), Some(1.0), Some(0.0)]);
    assert_eq!(with_gaps, [0.5], "rounds that miss either are left out");
}
