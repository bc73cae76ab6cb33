from pixel_server.cli import main

main()
