//! Completions, asked for in a real shell.

use std::process::Command;

use crate::harness::Server;

fn script(shell: &str) -> (tempfile::TempDir, String) {
    let server = Server::start();
    let ended = server.client(&["completions", shell]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("_berth");
    std::fs::write(&path, ended.stdout).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (home, path)
}

/// What bash would offer behind this line. Like Readline, it splits words at colons before it asks.
fn offered(line: &str) -> Vec<String> {
    let (_home, path) = script("bash");
    let ask = r#"
        source "$1"
        [[ $(complete -p berth) =~ -F\ ([^ ]+) ]] && function=${BASH_REMATCH[1]}
        COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=()
        rest=${2//:/ : }
        read -ra COMP_WORDS <<<"$rest"
        [[ $rest == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        "$function" berth "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["--norc", "-c", ask, "bash", &path, line]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_with_colons_and_their_options() {
    // Readline replaces only what stands behind the last colon.
    assert_eq!(offered("berth ps:sc"), ["scale"]);
    assert_eq!(offered("berth maintenance:o"), ["on", "off"]);
    let after_ps = offered("berth ps");
    for name in ["ps", "ps:scale", "ps:restart"] {
        assert!(after_ps.contains(&name.to_owned()), "no {name} in {after_ps:?}");
    }
    for line in ["berth config:set --", "berth -a shop config:set --", "berth config:set A=b --"] {
        let options = offered(line);
        for option in ["--release-phase", "--no-wait", "--app"] {
            assert!(options.contains(&option.to_owned()), "no {option} in {options:?} after {line}");
        }
    }
    assert_eq!(offered("berth completions z"), ["zsh"]);
}

#[test]
fn zsh_completes_commands_with_colons_and_their_options() {
    if Command::new("zsh").arg("--version").output().is_err() {
        // `scripts/install-missing --tests` brings it; without it, bash's test stands for both.
        assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "zsh is missing");
        return;
    }
    let (home, _path) = script("zsh");
    // A shell on a terminal of its own, in which somebody types and presses the tabulator.
    let session = r#"
        zmodload zsh/zpty
        zpty -b shell zsh -f -i
        type-and-wait() {
            zpty -w -n shell "$1"
            local seen= chunk
            for (( turn = 0; turn < 600; turn++ )) {
                while zpty -r -t shell chunk; do seen+=$chunk; done
                [[ $seen == *$~2* ]] && break
                sleep 0.05
            }
            print -r -- "$seen"
        }
        type-and-wait $'PS1=; PS2=; fpath=('$1$' $fpath); autoload -U compinit && compinit -u -D; print rea""dy\n' '*ready*' > /dev/null
        type-and-wait $'berth ps:sc\t' '*ps:scale*'
        type-and-wait $'\C-uberth config:set --release-p\t' '*--release-phase*'
        zpty -d shell
    "#;
    let output = Command::new("zsh").args(["-f", "-c", session, "zsh"]).arg(home.path()).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("ps:scale") && seen.contains("--release-phase"), "{output:?}");
}
