<?php
// Prints hashes of WordPress, in the form of foreign.txt. Debian's WordPress has the class of
// the format $P$. The format $wp$2y$ of WordPress 6.8 is made here, because Debian's is older:
// PHP's own functions, called as WordPress documents.
require '/usr/share/wordpress/wp-includes/class-phpass.php';
foreach (array_slice($argv, 1) as $p) {
	$line = fn ($program, $format, $hash) => print(implode("\t", [$program, $format, bin2hex($p), $hash]) . "\n");
	$line('wordpress', 'phpass', (new PasswordHash(8, true))->HashPassword($p));
	$line('php-as-wordpress-6.8', 'wp', '$wp' . password_hash(base64_encode(hash_hmac('sha384', $p, 'wp-sha384', true)), PASSWORD_BCRYPT, ['cost' => 5]));
	$line('php', '2y', password_hash($p, PASSWORD_BCRYPT, ['cost' => 5]));
	$line('php', 'argon2id', password_hash($p, PASSWORD_ARGON2ID, ['memory_cost' => 1024, 'time_cost' => 2, 'threads' => 1]));
}
