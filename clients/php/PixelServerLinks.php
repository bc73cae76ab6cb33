<?php
// Makes pixel links offline, with the secrets of a pixel-server. docs/token.md specifies each byte.
declare(strict_types=1);

namespace PixelServer;

use InvalidArgumentException;

final class Minter
{
    private const MODES = ['off', 'count', 'last', 'pseudonymous', 'identified'];
    private const PARTS = ['single', 'top', 'bottom'];
    private const BASE_URL =
        '`\Ahttps?://(\[[0-9a-f:.]+\]|[\w.~-]+)(:(?<port>\d{1,5}))?(/[\w.~!$%&()*+,;=:@[\]/-]*)?\z`i';
    private const STYLE = ['display:block', 'position:absolute', 'float:none', 'width:1px', 'min-width:1px',
        'max-width:1px', 'height:1px', 'min-height:1px', 'max-height:1px', 'margin:0', 'margin-top:-1px', 'padding:0',
        'border:0', 'outline:0', 'box-shadow:none', 'background:none', ''];
    private string $signingKey;
    private string $recipientKey;

    /** $secrets: ['signing' => [newest, ...], 'recipient' => text], as in secrets.json. $mode: the campaign's mode. */
    public function __construct(private string $baseUrl, array $secrets, private string $mode = 'pseudonymous')
    {
        $isUrl = preg_match(self::BASE_URL, $baseUrl, $parts);
        $port = ($parts['port'] ?? '') === '' ? 80 : (int) $parts['port'];
        self::check($isUrl && $port > 0 && $port < 65536 && strlen($baseUrl) <= 500,
            'base URL must be an http or https address without user, query and fragment');
        [$signing, $recipient] = [$secrets['signing'][0] ?? null, $secrets['recipient'] ?? null];
        self::check(is_string($signing) && is_string($recipient) && $signing !== '' && $recipient !== '',
            "secrets must be ['signing' => [text, ...], 'recipient' => text]");
        self::choose(self::MODES, $mode, 'mode');
        $this->baseUrl = rtrim($baseUrl, '/');
        $this->signingKey = Blake2b::hash($signing, 32, '', 'px-sign');
        $this->recipientKey = Blake2b::hash($recipient, 32, '', 'px-recipient');
    }

    /** Returns the secrets in PIXEL_SECRET and PIXEL_RECIPIENT_SECRET, or in the files that ..._FILE name. */
    public static function secretsFromEnvironment(): array
    {
        foreach (['signing' => 'PIXEL_SECRET', 'recipient' => 'PIXEL_RECIPIENT_SECRET'] as $purpose => $name) {
            [$value, $file] = [trim((string) getenv($name)), trim((string) getenv("{$name}_FILE"))];
            self::check(($value === '') !== ($file === ''), "set $name or {$name}_FILE, and not both");
            self::check($file === '' || is_readable($file), "{$name}_FILE cannot be read");
            $text = $file === '' ? $value : trim(file_get_contents($file));
            $keys = $purpose === 'signing' ? preg_split('/[\s,]+/', $text, -1, PREG_SPLIT_NO_EMPTY) : [$text];
            self::check($keys && $keys === preg_grep('/\A.{16,}\z/su', $keys), "$name must have 16 characters or more");
            $secrets[$purpose] = $purpose === 'signing' ? $keys : $text;
        }
        return $secrets;
    }

    /**
     * Returns ['url' => ..., 'html' => ..., 'privacy_url' => ...] of one recipient, each null in mode off.
     *
     * $sentAt: time of sending in seconds since 1970. $part: single, top or bottom. $test: whether it is your own trial
     * mail. Throws InvalidArgumentException if an argument is wrong.
     */
    public function link(string $campaign, string $recipient, ?string $mode = null, string $part = 'single',
        ?int $sentAt = null, bool $test = false, ?int $now = null): array
    {
        self::check((bool) preg_match('/\A[a-z0-9][a-z0-9-]{0,62}\z/', $campaign),
            'campaign must be a to z, 0 to 9 and hyphens, up to 63 characters, and not begin with a hyphen');
        self::check((bool) preg_match('/\A[^\x00-\x1f\x7f-\x9f]{1,256}\z/u', $recipient),
            'recipient must have 1 to 256 characters of UTF-8, and no control characters');
        $mode ??= $this->mode;
        $flags = self::choose(self::MODES, $mode, 'mode') | self::choose(self::PARTS, $part, 'part') << 3
            | ($sentAt === null ? 0 : 0x20) | ($test ? 0x40 : 0);
        if ($mode === 'off') {
            return ['url' => null, 'html' => null, 'privacy_url' => null];
        }
        $seconds = $sentAt ?? $now ?? time();
        self::check($seconds >= 0 && $seconds < 2 ** 32, 'sentAt must be seconds since 1970');
        $hasRecipient = $mode !== 'count';
        $body = pack('CCN', 1, $flags, $hasRecipient ? $seconds : $seconds - $seconds % 86400)
            . ($hasRecipient ? Blake2b::hash($recipient, 8, $this->recipientKey) : '') . $campaign;
        $token = rtrim(strtr(base64_encode($body . Blake2b::hash($body, 10, $this->signingKey)), '+/', '-_'), '=');
        $url = "$this->baseUrl/o/$token.gif";
        $html = '<img src="' . htmlspecialchars($url) . '" width="1" height="1" alt="" border="0" style="'
            . implode('!important;', self::STYLE) . '">';
        return ['url' => $url, 'html' => $html, 'privacy_url' => "$this->baseUrl/privacy?t=$token"];
    }

    private static function choose(array $choices, string $name, string $field): int
    {
        self::check(in_array($name, $choices, true), "$field must be one of: " . implode(', ', $choices));
        return array_search($name, $choices, true);
    }

    private static function check(bool $isRight, string $message): void
    {
        if (!$isRight) {
            throw new InvalidArgumentException($message);
        }
    }
}

/** BLAKE2b (RFC 7693) with a key and a personalization. Sodium's has no hashes of less than 16 bytes. */
final class Blake2b
{
    private const IV = '6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1'
        . '510e527fade682d19b05688c2b3e6c1f1f83d9abfb41bd6b5be0cd19137e2179';
    private const ORDERS = ['0123456789abcdef', 'ea489fd61c02b753', 'b8c052fdae367194', '7931dcbe265a40f8',
        '905724afe1bc683d', '2c6a0b834d75fe19', 'c51fed4a0763928b', 'db7ec13950f4862a', '6fe9b308c2d714a5',
        'a2847615fb9e3cd0'];
    private const MIXES = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
        [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

    /** Returns the hash of $data, of $size bytes. $key: up to 64 bytes. $purpose: personalization, up to 16 bytes. */
    public static function hash(string $data, int $size, string $key = '', string $purpose = ''): string
    {
        $iv = array_values(unpack('J8', hex2bin(self::IV)));
        $parameters = array_values(unpack('P8', pack('CCCCx44a16', $size, strlen($key), 1, 1, $purpose)));
        $state = array_map(fn (int $word, int $parameter) => $word ^ $parameter, $iv, $parameters);
        $data = ($key === '' ? '' : str_pad($key, 128, "\0")) . $data;
        $length = strlen($data);
        for ($start = 0; $start < $length; $start += 128) {
            $words = array_values(unpack('P16', str_pad(substr($data, $start, 128), 128, "\0")));
            $v = [...$state, ...$iv];
            $v[12] ^= min($start + 128, $length);
            $v[14] ^= $start + 128 < $length ? 0 : -1;
            for ($round = 0; $round < 12; $round++) {
                $order = self::ORDERS[$round % 10];
                foreach (self::MIXES as $i => [$a, $b, $c, $d]) {
                    foreach ([[$order[2 * $i], 32, 24], [$order[2 * $i + 1], 16, 63]] as [$digit, $right, $turn]) {
                        $v[$a] = self::add(self::add($v[$a], $v[$b]), $words[hexdec($digit)]);
                        $v[$d] = self::rotate($v[$d] ^ $v[$a], $right);
                        $v[$c] = self::add($v[$c], $v[$d]);
                        $v[$b] = self::rotate($v[$b] ^ $v[$c], $turn);
                    }
                }
            }
            for ($i = 0; $i < 8; $i++) {
                $state[$i] ^= $v[$i] ^ $v[$i + 8];
            }
        }
        return substr(pack('P8', ...$state), 0, $size);
    }

    /** Returns the sum modulo 2^64. PHP's `+` would turn a larger sum into a float. */
    private static function add(int $a, int $b): int
    {
        $low = ($a & 0xffffffff) + ($b & 0xffffffff);
        return (($a >> 32) + ($b >> 32) + ($low >> 32)) << 32 | $low & 0xffffffff;
    }

    private static function rotate(int $word, int $bits): int
    {
        return $word << (64 - $bits) | $word >> $bits & (1 << (64 - $bits)) - 1;
    }
}
