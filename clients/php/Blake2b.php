<?php
// The hash of the tokens and recipient keys of a pixel-server.
declare(strict_types=1);

namespace PixelServer;

/**
 * BLAKE2b (RFC 7693) with a key and a personalization. Sodium's `sodium_crypto_generichash` takes no personalization
 * and makes no hash of less than 16 bytes. A tag has 10 bytes and a recipient key has 8.
 */
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
