"""The operating system, broken."""

from .shell import Breakage

HOST = (
    Breakage(
        ("OS-01",),
        "sudo systemd-run -q --unit probe-listener python3 -m http.server 9999",
        "sudo systemctl stop probe-listener",
    ),
    Breakage(
        ("OS-02", "OS-02-PROBE"),
        "sudo nft 'chain inet dbkeep input { policy accept; }'",
        "sudo nft 'chain inet dbkeep input { policy drop; }'",
    ),
    Breakage(
        ("OS-03",),
        "sudo install -D -o redis -m 600 /dev/null /var/lib/redis/.ssh/authorized_keys",
        "sudo rm -r /var/lib/redis/.ssh",
    ),
    Breakage(
        ("OS-04",),
        "sudo install -d /etc/systemd/system/mongod.service.d && printf '[Service]\\nNoNewPrivileges=no\\n'"
        " | sudo tee /etc/systemd/system/mongod.service.d/zz-probe.conf >/dev/null && sudo systemctl daemon-reload",
        "sudo rm /etc/systemd/system/mongod.service.d/zz-probe.conf && sudo systemctl daemon-reload",
    ),
    Breakage(
        ("OS-05",),
        "sudo systemctl -q disable redis-server@cache",
        "sudo systemctl -q enable redis-server@cache",
    ),
    Breakage(
        ("OS-06",),
        "sudo install -d /run/systemd/system/chat-api.service.d && printf '[Service]\\nLimitCORE=infinity\\n'"
        " | sudo tee /run/systemd/system/chat-api.service.d/zz-probe.conf >/dev/null"
        " && sudo systemctl daemon-reload && sudo systemctl restart chat-api",
        "sudo rm /run/systemd/system/chat-api.service.d/zz-probe.conf"
        " && sudo systemctl daemon-reload && sudo systemctl restart chat-api",
    ),
    Breakage(
        ("OS-10",),
        "sudo sysctl -qw net.ipv4.conf.all.accept_redirects=1",
        "sudo sysctl -qw net.ipv4.conf.all.accept_redirects=0",
    ),
    Breakage(
        ("OS-11", "OS-11-PROBE"),
        "echo 'PasswordAuthentication yes' | sudo tee /etc/ssh/sshd_config.d/00-a-probe.conf >/dev/null"
        " && sudo systemctl reload ssh",
        "sudo rm /etc/ssh/sshd_config.d/00-a-probe.conf && sudo systemctl reload ssh",
    ),
    Breakage(
        ("OS-12",),
        "echo 'redis ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/probe >/dev/null",
        "sudo rm /etc/sudoers.d/probe",
    ),
    Breakage(
        ("OS-13",),
        "echo 'deb [trusted=yes] file:/nowhere ./' | sudo tee /etc/apt/sources.list.d/probe.list >/dev/null",
        "sudo rm /etc/apt/sources.list.d/probe.list",
    ),
    Breakage(
        ("OS-16",),
        "sudo install -d /run/systemd/journald.conf.d && printf '[Journal]\\nStorage=volatile\\n'"
        " | sudo tee /run/systemd/journald.conf.d/zz-probe.conf >/dev/null && sudo systemctl restart systemd-journald",
        "sudo rm /run/systemd/journald.conf.d/zz-probe.conf && sudo systemctl restart systemd-journald",
    ),
    Breakage(("OS-25",), "sudo systemctl -q disable nftables", "sudo systemctl -q enable nftables"),
    Breakage(
        ("OS-18",),
        "sudo install -m 644 /etc/chat_api/credentials/redis_svc_api /var/log/probe",
        "sudo rm /var/log/probe",
    ),
    Breakage(("OS-19",), "sudo chmod o+r /etc/dbkeep/tls/redis.key", "sudo chmod o-r /etc/dbkeep/tls/redis.key"),
    Breakage(
        ("OS-23",),
        "sudo systemd-run -q --unit probe-failure false; sleep 0.5",
        "sudo systemctl reset-failed probe-failure",
    ),
    Breakage(
        ("OS-24",),
        "sudo openssl req -x509 -newkey ed25519 -nodes -subj /CN=probe -days 7 -keyout /dev/null"
        " -out /etc/dbkeep/tls/probe.crt 2>/dev/null",
        "sudo rm /etc/dbkeep/tls/probe.crt",
    ),
)
