#![no_main]

#[path = "../src/oracle/mod.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && !text.contains('\0')
    {
        let verdict = oracle::judge(text);
        assert!(verdict.complaints.is_empty(), "{:?}", verdict.complaints);
    }
});
