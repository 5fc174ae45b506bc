//! What systemd is told (`Type=notify`). Without systemd these do nothing.

use sd_notify::NotifyState;

/// Requests are welcome.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The drain began.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
