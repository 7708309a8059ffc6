"""What programs do with their words: which run other commands, which run code, which talk over the network.

A table gives the options that a wrapper takes; one that is not in it leaves the command incomplete. What no table names is
judged by its name and its words alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Wrapper:
    """How to find the command in a wrapper's words. Letters are short options; `operands` stand before the command."""

    flags: str = ""
    values: str = ""
    long_flags: frozenset[str] = frozenset()
    long_values: frozenset[str] = frozenset()
    operands: int = 0
    assignments: bool = False
    facets: frozenset[str] = frozenset({"wrapper"})


def words_in(text: str) -> frozenset[str]:
    """The words of a table."""
    return frozenset(text.split())


WRAPPERS: Final[Mapping[str, Wrapper]] = {
    "sudo": Wrapper(
        "AbBEHknNPS",
        "CDgpRTu",
        words_in("--background --preserve-env --set-home --non-interactive --preserve-groups --stdin --askpass --reset-timestamp"),
        words_in("--user --group --chdir --prompt --close-from --command-timeout --preserve-env"),
        assignments=True,
        facets=words_in("wrapper sudo"),
    ),
    "doas": Wrapper("n", "u", facets=words_in("wrapper sudo")),
    "env": Wrapper("iv0", "u", words_in("--ignore-environment --debug --null"), words_in("--unset"), assignments=True),
    "nice": Wrapper("0123456789", "n", long_values=words_in("--adjustment")),
    "ionice": Wrapper("t", "cn", words_in("--ignore"), words_in("--class --classdata")),
    "nohup": Wrapper(),
    "setsid": Wrapper("cfw", "", words_in("--ctty --fork --wait")),
    "stdbuf": Wrapper("", "ioe", long_values=words_in("--input --output --error")),
    "timeout": Wrapper("fpv", "ks", words_in("--foreground --preserve-status --verbose"), words_in("--kill-after --signal"), operands=1),
    "time": Wrapper("pvV", "f", words_in("--portability --verbose"), words_in("--format")),  # its -o writes a file
    "coproc": Wrapper(facets=words_in("wrapper background")),
    "command": Wrapper("p"),
    "builtin": Wrapper(),
    "exec": Wrapper("cl", "a"),
    "busybox": Wrapper(),
    "toybox": Wrapper(),
    "chroot": Wrapper("", "", words_in("--skip-chdir"), words_in("--userspec --groups"), operands=1),
    "xargs": Wrapper(
        "0rtpxo",
        "adEILnPs",
        words_in("--null --no-run-if-empty --verbose --interactive --exit --open-tty"),
        words_in("--arg-file --delimiter --max-args --max-procs --max-chars"),
        facets=words_in("wrapper expansion"),
    ),
}
# run commands from their words or their files in ways that are not read here
OPAQUE: Final = words_in(
    """parallel ssh slogin mosh su runuser sg newgrp pkexec run0 machinectl systemd-run nsenter unshare bwrap firejail proot fakeroot
    fakechroot capsh setpriv chpst runcon setarch linux32 linux64 taskset chrt prlimit numactl cgexec flock script unbuffer expect
    strace ltrace perf gdb lldb valgrind watch entr inotifywait ld.so ld-linux.so.2 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1
    dbus-run-session xvfb-run rlwrap faketime torsocks proxychains proxychains4 start-stop-daemon daemonize runsv at batch crontab
    screen tmux byobu lxc-attach agetty setuidgid s6-setuidgid gosu su-exec tini dumb-init catchsegv sudoedit visudo logsave choom
    uidmap ssh-agent aoss eatmydata direnv nix-shell conda-run pipx npx bunx uvx make gmake ninja vi vim nvim view ex ed emacs
    nano less more man mysql psql sqlite3 run-parts systemd-cat systemd-inhibit systemd-nspawn systemd-socket-activate chronic ifne pee
    envdir envuidgid softlimit setlock dc m4 gnuplot octave julia guile racket sbcl clisp ocaml ghc ipython ipython3 micropython irb jruby
    iex emacsclient vimdiff rvim rview gvim evim vimtutor joe pico mc mcedit most pg zless zmore bzless xzless mail mailx rake ant mvn
    gradle cmake scons meson ldd rpm dpkg cpio busctl gdbus dbus-send git-shell sudo_logsrvd logrotate debugfs"""
)
# reach the network by what they are for
NETWORK: Final = words_in(
    """curl wget aria2c http https lynx w3m links elinks nc ncat netcat nc.openbsd nc.traditional socat telnet ftp lftp tftp ssh slogin
    scp sftp rsync mosh rlogin rsh rcp nmap masscan ping ping6 traceroute tracepath mtr dig host nslookup whois tcpdump openssl
    smbclient rclone aws gcloud az git svn hg pip pip3 npm yarn pnpm gem cargo go apt apt-get dnf yum zypper apk snap flatpak"""
)
SHELLS: Final = words_in("bash rbash sh dash ash zsh ksh ksh93 mksh pdksh yash fish csh tcsh elvish nu xonsh pwsh powershell")
READ_SHELLS: Final[Mapping[str, str]] = {"bash": "bash", "rbash": "bash", "sh": "sh", "dash": "sh", "ash": "sh"}
# interpreters: the options that hold code, those without a value that may stand before it, and whether the first operand is code itself
CODE_OPTIONS: Final[Mapping[str, str]] = {
    "python": "c",
    "pypy": "c",
    "perl": "eE",
    "ruby": "e",
    "node": "ep",
    "nodejs": "ep",
    "php": "rBRE",
    "lua": "e",
    "luajit": "e",
    "Rscript": "e",
    "R": "e",
    "tclsh": "",
    "wish": "",
    "expect": "c",
    "deno": "",
    "bun": "e",
    "java": "",
    "jshell": "",
    "scala": "e",
    "groovy": "e",
    "ghci": "e",
    "runghc": "",
    "elixir": "e",
    "erl": "",
    "osascript": "e",
    "awk": "",
    "gawk": "",
    "mawk": "",
    "nawk": "",
}
CODE_FIRST: Final = words_in("awk gawk mawk nawk")
# run programs in containers and machines by these words, or do nothing of the kind
CONTAINERS: Final = words_in("docker podman nerdctl kubectl oc crictl ctr lxc vagrant")
CONTAINER_RUNS: Final = words_in("exec run debug create compose build buildx plugin shell ssh start attach")
# options by which a program runs another one, or reads what makes it do so
RUNNING_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "git": ("-c", "-O", "-x", "-p", "--paginate", "--config-env", "--exec-path", "--exec", "--upload-pack", "--receive-pack", "--ext-diff",
            "--open-files-in-pager", "--config", "--git-dir", "--work-tree", "foreach", "bisect", "filter-branch", "difftool", "mergetool",
            "for-each-repo", "hook", "send-email", "instaweb", "--extcmd", "--tree-filter", "--upload-archive"),
    "tar": ("-I", "-F", "-T", "--files-from",
            "--checkpoint-action", "--to-command", "--use-compress-program", "--rsh-command", "--rmt-command", "--info-script",
            "--new-volume-script"),
    "rsync": ("-e", "--rsh", "--rsync-path", "--daemon", "--config", "-M", "--remote-option"),
    "scp": ("-S", "-o", "-F", "-D"),
    "sftp": ("-S", "-o", "-F", "-D", "-b"),
    "sort": ("--compress-program",),
    "split": ("--filter",),
    "zip": ("-T", "--unzip-command"),
    "tcpdump": ("-z",),
    "nmap": ("--script", "--interactive"),
    "wget": ("-e", "--execute", "--use-askpass", "--config"),
    "curl": ("-K", "--config"),
    "apt": ("-o", "-c", "--option", "--config-file"),
    "apt-get": ("-o", "-c", "--option", "--config-file"),
    "ip": ("netns", "vrf", "-b", "--batch"),
    "journalctl": (),
}  # fmt: skip
HARMLESS_OPTIONS: Final = "uBEsSOqIPwnlpaix0VvhtTd"
# builtins that evaluate what they are given, or change what later commands mean
CHANGES_MEANING: Final[Mapping[str, str]] = {
    ".": "`.` runs a file in the same shell",
    "source": "`source` runs a file in the same shell",
    "alias": "`alias` changes what commands mean",
    "shopt": "`shopt` changes how the shell reads",
    "enable": "`enable` changes what commands mean",
    "hash": "`hash` may change what commands mean",
    "bind": "`bind` evaluates its words",
    "complete": "`complete` evaluates its words",
    "compgen": "`compgen` evaluates its words",
    "fc": "`fc` runs commands of the history",
    "jobs": "`jobs` may run a command",
    "let": "`let` evaluates its words",
    "mapfile": "`mapfile` may run a command",
    "readarray": "`readarray` may run a command",
    "getopts": "`getopts` evaluates its words",
}
NAMES_ONLY: Final = words_in("read unset wait export readonly declare typeset local")  # evaluate subscripts in the names they are given
RESERVED: Final = words_in("if then elif else fi do done case esac while until for select function in { } ! [[ ]] (( ))")
# variables that change which program runs, or what it runs
MEANINGFUL: Final = (
    r"PATH|CDPATH|ENV|IFS|HOME|SHELL|GLOBIGNORE|FIGNORE|EXECIGNORE|PS[0-9]|PROMPT_COMMAND|SHELLOPTS|POSIXLY_CORRECT|BASH.*|LD_.*|DYLD_.*|"
    r"MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|TERMINFO.*|TERMCAP|TMPDIR|GIT_.*|SSH_.*|SUDO_.*|RSYNC_.*|TAR_.*|TAPE|"
    r".*EDITOR|VISUAL|.*PAGER|LESS.*|MORE|BROWSER|MAN.*|PYTHON.*|PERL.*|RUBY.*|NODE_.*|NPM_.*|npm_.*|LUA_.*|PHP.*|JAVA_.*|JDK_.*|_JAVA_.*|CLASSPATH|"
    r"GEM_.*|BUNDLE_.*|CARGO.*|RUSTC.*|GO[A-Z]+|CC|CXX|MAKE.*|AWK.*|GAWK.*|SYSTEMD_.*|DOCKER_.*|KUBECONFIG|AWS_.*|CURL_.*|WGETRC|.*_proxy|.*_PROXY|"
    r"OPENSSL_.*|SSL_.*|XDG_.*|DISPLAY|DBUS_.*|FPATH|FCEDIT|HIST.*|INPUTRC|OPTIND|RANDOM|SECONDS|LINENO|FUNCNEST|TIMEFORMAT|COPROC|_"
)

# that leave their standard input alone, whatever their words are: behind these, the rest of a script that a shell reads from it is the rest
READS_NOTHING: Final = words_in(
    """: true false echo printf cd pwd test [ [[ export unset set shift exit return break continue umask type hash alias local readonly
    declare typeset let shopt trap wait jobs kill sleep ls dir stat readlink realpath basename dirname mkdir rmdir touch chmod chown chgrp
    ln du df date uname hostname id whoami groups uptime free ps nproc arch lscpu systemctl service mktemp seq sync which"""
)
