# What is asked of the service in a NixOS machine (vm-test.nix), and in a Debian one by tests/service.
# The test driver gives `machine` and `subtest`.
# ruff: noqa: F821
unit = "dgx-vllm-main.service"
url = "http://127.0.0.1:8888"
models = f"curl --silent --fail --header @/root/header {url}/v1/models"
body = '{"model": "demo", "prompt": "1 2 3 4", "max_tokens": 8, "temperature": 0}'
completion = (
    "curl --silent --fail --header @/root/header --header 'Content-Type: application/json' "
    f"--data '{body}' {url}/v1/completions"
)

machine.wait_for_unit("multi-user.target")
machine.succeed("head --bytes=24 /dev/urandom | base64 | tr -d '\\n' > /root/key")
machine.succeed("chmod 600 /root/key")
machine.succeed("(printf 'Authorization: Bearer '; cat /root/key) > /root/header")

with subtest("It becomes active, and answers from then on"):
    machine.succeed(f"systemctl start {unit}")
    machine.succeed(models)
    machine.succeed(f"{completion} | grep -F '5 6 7 8'")

with subtest("A wrong key is refused, and so is none"):
    for header in ("Authorization: Bearer wrong", "X-None: 1"):
        ask = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --header '{header}'"
        status = machine.succeed(f"{ask} {url}/v1/models")
        assert status.strip() == "401", status

with subtest("The key is nowhere to be read"):
    machine.fail(f"systemctl show {unit} | grep -F -f /root/key")
    machine.fail(f"systemctl cat {unit} | grep -F -f /root/key")
    machine.fail("journalctl --no-pager | grep -F -f /root/key")
    machine.fail("ps -eo args | grep -F -f /root/key")

with subtest("It survives the death of its engine"):
    # In brackets, so that no shell that holds the pattern is meant by it.
    machine.succeed("pkill -KILL -f '[E]ngineCore|multiprocessing.[s]pawn import'")
    machine.wait_until_succeeds(f"systemctl show --value --property NRestarts {unit} | grep -x 1")
    machine.wait_for_unit(unit)
    machine.succeed(completion)

with subtest("It stops when told to"):
    machine.succeed(f"systemctl stop {unit}")
    machine.succeed(f"systemctl show --value --property Result {unit} | grep -x success")
    machine.fail(models)
