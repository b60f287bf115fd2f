//! Renders notices in every format into a directory, for looking at: `cargo run --example notices -- DIRECTORY`.

use std::path::PathBuf;

use jiff::Timestamp;
use rollbackd::notify::format::{self, Neutral};
use rollbackd_core::notice::{Notice, NoticeKind};
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Severity;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: notices DIRECTORY")?);
    std::fs::create_dir_all(&directory)?;
    for (name, notice) in [("rolling-back", rolling_back()?), ("recovered", recovered()?), ("blind", blind()?), ("hostile", hostile()?)] {
        let neutral = Neutral::of(&notice);
        std::fs::write(directory.join(format!("{name}.txt")), format::text(&neutral))?;
        std::fs::write(directory.join(format!("{name}.html")), format::html(&neutral))?;
        std::fs::write(directory.join(format!("{name}.json")), serde_json::to_string_pretty(&format::json(&neutral))?)?;
        std::fs::write(directory.join(format!("{name}.slack.json")), serde_json::to_string_pretty(&format::slack(&neutral))?)?;
    }
    Ok(())
}

fn rolling_back() -> Result<Notice, Box<dyn std::error::Error>> {
    Ok(Notice {
        id: "k3f9a2b1-14".to_owned(),
        incident: "k3f9a2b1-12".to_owned(),
        opens_incident: true,
        kind: NoticeKind::RollingBack,
        severity: Some(Severity::P1),
        service: Some(ServiceName::try_from("checkout")?),
        environment: "production".to_owned(),
        at: Timestamp::from_second(1_795_230_765)?,
        headline: "checkout: 62 % of requests fail since shop:v2.14.0, rolling back to shop:v2.13.4".to_owned(),
        paragraphs: strings(&[
            "62 % of the requests to checkout have failed over the last 2 minutes; before the deployment it was at most 0.4 %. This began 40 s after shop:v2.14.0 arrived.",
            "shop:v2.13.4 ran for 6 days without a finding and is being deployed again, as a whole pod template. Environment from elsewhere, secrets, the schema and volumes are not reverted.",
        ]),
        facts: pairs(&[
            ("leaves", "shop:v2.14.0"),
            ("goes back to", "shop:v2.13.4"),
            ("signal", "errors (prometheus main)"),
            ("failed", "1,482 of 2,390 requests"),
            ("promise", "recovered by 03:24:10 UTC"),
            ("where", "kubernetes shop/checkout"),
        ]),
        next: vec![
            ("Nothing, for now. You will hear whether it helped.".to_owned(), None),
            ("See why this was decided:".to_owned(), Some("rollbackd explain checkout".to_owned())),
            ("Keep it from acting on this service:".to_owned(), Some("rollbackd hold checkout --reason 'I am on it'".to_owned())),
        ],
    })
}

fn recovered() -> Result<Notice, Box<dyn std::error::Error>> {
    Ok(Notice {
        id: "k3f9a2b1-17".to_owned(),
        opens_incident: false,
        kind: NoticeKind::Recovered,
        at: Timestamp::from_second(1_795_230_972)?,
        headline: "checkout: rolled back to shop:v2.13.4, recovered in 3 min 27 s".to_owned(),
        paragraphs: strings(&[
            "shop:v2.13.4 is rolled out on all 6 replicas, and the share of failed requests is 0.3 %, as before. It is watched for another 15 minutes.",
        ]),
        next: vec![(
            "Read the log of the bad version before its pods are gone:".to_owned(),
            Some("kubectl -n shop logs -l app=checkout,version=v2.14.0 --tail=200".to_owned()),
        )],
        ..rolling_back()?
    })
}

fn blind() -> Result<Notice, Box<dyn std::error::Error>> {
    Ok(Notice {
        id: "k3f9a2b1-21".to_owned(),
        incident: "k3f9a2b1-21".to_owned(),
        kind: NoticeKind::Blind,
        severity: None,
        service: None,
        headline: "prometheus main has not answered for 2 min: 14 services are judged without it".to_owned(),
        paragraphs: strings(&["Nothing is rolled back for want of evidence. Probes go on."]),
        facts: pairs(&[("source", "http://prometheus.monitoring:9090"), ("answer", "connection refused")]),
        next: vec![("Look whether Prometheus runs.".to_owned(), Some("kubectl -n monitoring get pods".to_owned()))],
        ..rolling_back()?
    })
}

fn hostile() -> Result<Notice, Box<dyn std::error::Error>> {
    let text = format!("<b>v2</b>\r\nBcc: x\u{1b}[31m\u{202e}txt.exe {}", "unbreakable".repeat(400));
    Ok(Notice { headline: text.clone(), paragraphs: vec![text.clone(); 9], facts: vec![(text.clone(), text); 30], ..rolling_back()? })
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(label, value)| (label.to_owned(), value.to_owned())).collect()
}
