"""The SMTP relay: takes a mail, adds the pixel, and passes it on before it answers. It keeps no mail.

One transaction of the client is one transaction with the next server, command by command. So each answer
that the client gets is the next server's answer, or a refusal of this relay.
"""
