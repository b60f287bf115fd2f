//! The bodies of notices: text, HTML, JSON, Slack.
