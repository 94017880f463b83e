"""`python -m chaos` is `trio-chaos`."""

from chaos.commands.main import main

if __name__ == "__main__":
    main()
