# SPDX-License-Identifier: GPL-2.0
# Writes the C of modest_big's tables and functions: always the same. Numbers stay below 2^53, where awk's are exact.
function random(n) {
	state = (state * 69069 + 12345) % 4294967296
	return int(state / 65536) % n
}

BEGIN {
	state = 1
	chips = 800
	settings = 430
	print "// SPDX-License-Identifier: GPL-2.0"
	print "#include \"big.h\""
	sum = 0
	for (chip = 0; chip < chips; chip++) {
		printf "static const struct big_setting settings_%d[] = {\n", chip
		address = 1024 * random(64)
		line = 0
		for (i = 0; i < settings; i++) {
			# Mostly the next register, mostly to be zero, as in a table of a driver.
			address += random(40) ? 4 : 4 * random(32)
			value = random(15) ? 0 : random(64) * (random(3) ? 1 : 65536)
			printf "{%d,%d},%s", address, value, (i % 8 == 7) ? "\n" : ""
			sum = (sum + value) % 4294967296
		}
		print "};"
		printf "static noinline u32 setup_%d(const struct big_chip *chip, u32 sum)\n{\n", chip
		print "\tu32 i;\n\n\tfor (i = 0; i < chip->len; i++) {"
		for (i = random(6); i >= 0; i--)
			printf "\t\tif (chip->settings[i].address == %d)\n\t\t\tsum += chip->len - %d;\n", 4 * random(65536), settings
		print "\t\tsum += chip->settings[i].value;\n\t}\n\treturn sum;\n}"
	}
	print "const struct big_chip big_chips[] = {"
	for (chip = 0; chip < chips; chip++)
		printf "{\"modest,chip-%d\", settings_%d, %d, setup_%d},\n", chip, chip, settings, chip
	print "};"
	printf "const u32 big_chips_len = %d, big_sum = %.0f;\n", chips, sum
}
