// Sends an HTML mail to one recipient through an SMTP server: node send.js PORT RECIPIENT
import nodemailer from 'nodemailer'

const [port, to] = process.argv.slice(2)
const transport = nodemailer.createTransport({ host: '127.0.0.1', port: Number(port), ignoreTLS: true })
const info = await transport.sendMail({
  from: 'Shop <shop@example.org>',
  to,
  subject: 'Grüße',
  text: 'Grüße',
  html: '<html><body><p>Grüße</p></body></html>',
  headers: { 'X-Pixel-Campaign': 'spring' },
})
console.log(info.response)
