<?php
// Reads the secrets of a pixel-server from the environment.
declare(strict_types=1);

namespace PixelServer;

use InvalidArgumentException;

final class Secrets
{
    /**
     * Returns ['signing' => [newest, ...], 'recipient' => text]: the secrets in PIXEL_SECRET and
     * PIXEL_RECIPIENT_SECRET, or in the files that PIXEL_SECRET_FILE and PIXEL_RECIPIENT_SECRET_FILE name.
     *
     * Throws InvalidArgumentException if a secret is missing or too short.
     */
    public static function fromEnvironment(): array
    {
        $signing = preg_split('/[\s,]+/', self::read('PIXEL_SECRET'), -1, PREG_SPLIT_NO_EMPTY);
        $recipient = self::read('PIXEL_RECIPIENT_SECRET');
        self::checkLength('PIXEL_SECRET', $signing);
        self::checkLength('PIXEL_RECIPIENT_SECRET', [$recipient]);
        return ['signing' => $signing, 'recipient' => $recipient];
    }

    private static function read(string $name): string
    {
        [$value, $file] = [trim((string) getenv($name)), trim((string) getenv("{$name}_FILE"))];
        if (($value === '') === ($file === '')) {
            throw new InvalidArgumentException("set $name or {$name}_FILE, and not both");
        }
        if ($file !== '' && !is_readable($file)) {
            throw new InvalidArgumentException("{$name}_FILE cannot be read");
        }
        return $file === '' ? $value : trim(file_get_contents($file));
    }

    private static function checkLength(string $name, array $keys): void
    {
        if (!$keys || $keys !== preg_grep('/\A.{16,}\z/su', $keys)) {
            throw new InvalidArgumentException("$name must have 16 characters or more");
        }
    }
}
