"""Where the `towline` command begins: kubectl's plugin goes ahead of all that the other commands need."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["k8s-token"]:
        from towline.cli.kube import plugin

        try:
            sys.exit(plugin.run(sys.argv[2:]))
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
    from towline.cli.main import main as others

    others()


if __name__ == "__main__":
    main()
