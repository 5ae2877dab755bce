//! What this coordinator was set to, and by what.

use pactum_proto::v1;

use crate::config::Setting;

/// The settings as they are told. They are those of the start: none changes while a coordinator runs.
pub(super) fn told(settings: &[Setting]) -> v1::GetConfigResponse {
    let settings = settings
        .iter()
        .map(|setting| v1::Setting {
            key: setting.key.clone(),
            value: setting.value.clone(),
            origin: setting.origin.clone(),
        })
        .collect();
    v1::GetConfigResponse { settings }
}
