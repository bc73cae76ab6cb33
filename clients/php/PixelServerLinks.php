<?php
// Makes pixel links offline, with the secrets of a pixel-server. docs/token.md specifies each byte.
declare(strict_types=1);

namespace PixelServer;

use InvalidArgumentException;

require_once __DIR__ . '/Blake2b.php';
require_once __DIR__ . '/Secrets.php';

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
