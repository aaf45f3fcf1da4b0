//! `berth tokens:reset`: the way back in for whoever owns the machine.

use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use store::{MasterKey, Store};

use crate::arguments::DataDirOption;
use crate::data_dir::DataDir;
use crate::server::{first_account, new_token};

pub(crate) fn reset(option: &DataDirOption, json: bool) -> Result<()> {
    let data_dir = DataDir::open(option)?;
    let store = Store::open(&data_dir.path.join("berth.db"), MasterKey::new(data_dir.master_key()?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
    runtime.block_on(async {
        let account = first_account(&store).await?;
        store.revoke_all_tokens(account.id, Timestamp::now()).await?;
        // Whoever asks could read its secret: a lost telephone must not lock the owner of the machine out.
        store.remove_two_factor(account.id).await?;
        let (_token, text) =
            store.create_token(new_token(account.id, "made by tokens:reset"), Timestamp::now()).await?;
        let url = store.setting("api_url")?.context("the server was never started with this data directory")?;
        let ca = api::tls::ca_file(&data_dir.path.join("ca"));
        let file = cli::credentials::store(&url, text.expose(), Some(&ca))?;
        report(json, &url, &account.email, &file);
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn report(json: bool, url: &str, email: &str, file: &Path) {
    if json {
        // Without the token itself: what is printed ends in logs.
        println!("{:#}", serde_json::json!({ "server": url, "account": email, "credentials_file": file }));
    } else {
        println!(
            "All tokens were revoked and a second factor is forgotten; a new token for {url} is in your credentials file."
        );
    }
}
